//! The key with which a host knows its parked cells again.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::borrow::Cow;
use std::fmt;

type HmacSha256 = Hmac<Sha256>;

/// Bytes of the longer of the two kinds of tag.
pub(super) const TAG: usize = 32;
/// Bytes of the tag of an encrypted payload.
const SEALED_TAG: usize = 16;

/// A secret that parked cells are authenticated with, and encrypted where the host wants that.
/// A host that is to wake a cell needs the same secret as the host that parked it.
#[derive(Clone, PartialEq, Eq)]
pub struct ParkKey {
    secret: [u8; 32],
    encrypts: bool,
}

impl ParkKey {
    /// A key that authenticates parked cells: bytes that were changed are refused, and what
    /// the program knows can be read by whoever has them.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret, encrypts: false }
    }

    /// A key that encrypts parked cells too. It wakes what [`ParkKey::new`] with the same
    /// secret has parked, and the other way round.
    pub fn encrypting(secret: [u8; 32]) -> Self {
        Self { secret, encrypts: true }
    }

    /// The key that a host has for one of those it serves, such as a tenant: what one has
    /// parked cannot be woken for another. Keys of the same name are the same on all hosts with
    /// this secret.
    #[must_use]
    pub fn derived(&self, name: &str) -> Self {
        let keyed = keyed(&self.secret).chain_update(b"cellblock park: key of ");
        let secret = keyed.chain_update(name).finalize().into_bytes().into();
        Self { secret, encrypts: self.encrypts }
    }

    /// Tells this key from others, and says nothing of the secret: sixteen hexadecimal digits.
    pub fn name(&self) -> String {
        format!("{:016x}", u64::from_be_bytes(*Seal::new(self).name()))
    }

    /// A key at random.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random() -> std::io::Result<Self> {
        Self::random_secret().map(Self::new)
    }

    /// A secret at random, to be kept.
    ///
    /// # Errors
    /// As for [`ParkKey::random`].
    pub fn random_secret() -> std::io::Result<[u8; 32]> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(std::io::Error::from)?;
        Ok(secret)
    }
}

/// The secret is not shown.
impl fmt::Debug for ParkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParkKey").field("encrypts", &self.encrypts).finish_non_exhaustive()
    }
}

/// What is made of a key, once.
pub(super) struct Seal {
    name: [u8; 8],
    authentication: HmacSha256,
    encryption: XChaCha20Poly1305,
    encrypts: bool,
}

impl Seal {
    pub(super) fn new(key: &ParkKey) -> Self {
        // Each use has a key of its own, so that none says anything of another.
        let derive = |purpose: &[u8]| -> [u8; 32] {
            keyed(&key.secret).chain_update(purpose).finalize().into_bytes().into()
        };
        let mut name = [0; 8];
        name.copy_from_slice(&derive(b"cellblock park: name of the key")[..8]);
        Self {
            name,
            authentication: keyed(&derive(b"cellblock park: authentication")),
            encryption: XChaCha20Poly1305::new(&derive(b"cellblock park: encryption").into()),
            encrypts: key.encrypts,
        }
    }

    /// Tells this key from others, and says nothing of the secret.
    pub(super) fn name(&self) -> &[u8; 8] {
        &self.name
    }

    pub(super) fn encrypts(&self) -> bool {
        self.encrypts
    }

    /// Encrypts the payload, if that is wanted, and adds the tag.
    pub(super) fn close(&self, bytes: &mut Vec<u8>, nonce: usize, payload: usize) {
        if !self.encrypts {
            let tag = self.authentication.clone().chain_update(&*bytes).finalize().into_bytes();
            bytes.extend_from_slice(&tag);
            return;
        }
        let (head, plain) = bytes.split_at_mut(payload);
        let nonce = nonce_at(head, nonce);
        // It fails for texts of 256 GiB alone. Then there is no tag, and no one can open it.
        if let Ok(tag) = self.encryption.encrypt_inout_detached(&nonce, head, plain.into()) {
            bytes.extend_from_slice(&tag);
        }
    }

    /// The payload of bytes that were made with this key and not changed since.
    pub(super) fn open<'a>(
        &self,
        bytes: &'a [u8],
        nonce: usize,
        payload: usize,
        is_encrypted: bool,
    ) -> Option<Cow<'a, [u8]>> {
        let tag_len = if is_encrypted { SEALED_TAG } else { TAG };
        let end = bytes.len().checked_sub(tag_len)?;
        let (sealed, tag) = bytes.split_at(end);
        let (head, body) = sealed.split_at_checked(payload)?;
        if !is_encrypted {
            self.authentication.clone().chain_update(sealed).verify_slice(tag).ok()?;
            return Some(Cow::Borrowed(body));
        }
        let nonce = nonce_at(head, nonce);
        let mut plain = body.to_vec();
        let tag = <[u8; SEALED_TAG]>::try_from(tag).ok()?;
        self.encryption
            .decrypt_inout_detached(&nonce, head, (&mut *plain).into(), &tag.into())
            .ok()?;
        Some(Cow::Owned(plain))
    }
}

fn keyed(secret: &[u8; 32]) -> HmacSha256 {
    // HMAC pads a key that is shorter than the block of its hash with zeros.
    let mut block = [0; 64];
    block[..secret.len()].copy_from_slice(secret);
    HmacSha256::new(&block.into())
}

/// The nonce in the bytes before the payload, which have room for it.
fn nonce_at(head: &[u8], at: usize) -> XNonce {
    let mut nonce = [0; 24];
    nonce.copy_from_slice(&head[at..at + 24]);
    nonce.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_key_of_its_own() {
        let key = ParkKey::encrypting([7; 32]);
        assert_eq!(key.derived("acme"), ParkKey::encrypting([7; 32]).derived("acme"));
        let keys = [&key, &key.derived(""), &key.derived("acme"), &key.derived("acme2")];
        let names = std::collections::BTreeSet::from(keys.map(ParkKey::name));
        assert_eq!(names.len(), keys.len());
        assert!(names.iter().all(|name| name.len() == 16));
        assert!(keys.iter().all(|key| key.encrypts));
    }
}
