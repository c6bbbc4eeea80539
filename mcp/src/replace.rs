//! Files that are replaced in one go.

use std::fs::{File, Permissions};
use std::io::{Result, Write};
use std::path::Path;

/// How the names of files begin that are about to take the place of others.
const DRAFT: &str = ".draft-";

/// Puts a text in the place of a file, or makes it. Readers find the old file or the new one;
/// once this returns, the new one survives the loss of power. It is for this user alone where
/// no other permissions are given.
pub(crate) fn replace_file(
    path: &Path,
    text: &str,
    permissions: Option<Permissions>,
) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut draft = tempfile::Builder::new().prefix(DRAFT).tempfile_in(folder)?;
    if let Some(permissions) = permissions {
        draft.as_file().set_permissions(permissions)?;
    }
    draft.write_all(text.as_bytes())?;
    draft.as_file().sync_all()?;
    draft.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        let mode = || path.metadata().expect("it is there").permissions().mode() & 0o777;
        replace_file(&path, "one", None).expect("written");
        assert_eq!((std::fs::read_to_string(&path).expect("text"), mode()), ("one".into(), 0o600));
        replace_file(&path, "two", Some(Permissions::from_mode(0o640))).expect("written");
        assert_eq!((std::fs::read_to_string(&path).expect("text"), mode()), ("two".into(), 0o640));
        // What cannot be replaced stays, and leaves no draft.
        let folder = dir.path().join("folder");
        std::fs::create_dir_all(folder.join("full")).expect("a folder");
        assert!(replace_file(&folder, "three", None).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).expect("a list").count(), 2);
    }
}
