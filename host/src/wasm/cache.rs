//! Compiled code on disk.
//!
//! Compiled code is trusted input: whoever can write it can run anything in this
//! process. So it is loaded only from a folder and a file that belong to this
//! user and that nobody else may write, and its name says what it was made
//! from: guest, wasmtime version and configuration. What does not fit is
//! compiled again, and a cache that cannot be used costs time, never the run.

use super::engine::{EngineError, GUEST};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use sha2::{Digest, Sha256};
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Compiled guests that are kept: for some versions of Cellblock used side by side.
const KEPT: usize = 8;

/// `$XDG_CACHE_HOME/cellblock`, or `.cache/cellblock` in the home folder.
pub(super) fn default_dir() -> Option<PathBuf> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("cellblock"))
}

/// The guest, compiled: from the cache where that can be trusted.
pub(super) fn load_or_compile(
    engine: &Engine,
    dir: Option<&Path>,
) -> Result<Component, EngineError> {
    let path = dir.map(|dir| dir.join(file_name(engine)));
    if let Some(component) = path.as_deref().and_then(|path| load(engine, path)) {
        return Ok(component);
    }
    let component = Component::new(engine, GUEST)
        .map_err(|error| EngineError::Compile(format!("{error:#}")))?;
    if let Some(path) = path
        && let Err(reason) = store(&component, &path)
    {
        tracing::warn!("compiled code is not cached at {}: {reason}", path.display());
    }
    Ok(component)
}

/// Names what the code is made from.
fn file_name(engine: &Engine) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    hasher.write(GUEST);
    // Covers wasmtime's version, its configuration and the processor's features.
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let digest = hasher.0.finalize();
    let (half, _) = digest.split_at(16);
    format!(
        "guest-{}.cwasm",
        half.iter().fold(String::new(), |name, byte| format!("{name}{byte:02x}"))
    )
}

fn load(engine: &Engine, path: &Path) -> Option<Component> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let trusted = is_ours(&rustix::fs::fstat(&file).ok()?, FileType::RegularFile)
        && is_ours(&rustix::fs::stat(path.parent()?).ok()?, FileType::Directory);
    if !trusted {
        tracing::warn!("{} could be written by others, so it is not used", path.display());
        return None;
    }
    // The descriptor, not the path: what was checked is what is loaded.
    let checked = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file.as_fd()));
    let source = if Path::new(&checked).exists() { Path::new(&checked) } else { path };
    #[expect(unsafe_code, reason = "loading compiled code trusts it; see the module documentation")]
    // SAFETY: only this user can write the file and the folder it is in, and
    // `store` below is what writes there; wasmtime checks version and configuration.
    let loaded = unsafe { Component::deserialize_file(engine, source) };
    loaded.inspect_err(|error| tracing::debug!("cached code is not usable: {error:#}")).ok()
}

/// Ours, and nobody else's to write.
fn is_ours(stat: &Stat, kind: FileType) -> bool {
    let others_write = Mode::WGRP | Mode::WOTH;
    FileType::from_raw_mode(stat.st_mode) == kind
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && !Mode::from_raw_mode(stat.st_mode).intersects(others_write)
}

fn store(component: &Component, path: &Path) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let dir = path.parent().ok_or("it has no folder")?;
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(dir).map_err(|error| text(&error))?;
    let stat = rustix::fs::stat(dir).map_err(|error| text(&error))?;
    if !is_ours(&stat, FileType::Directory) {
        return Err("others could write the folder".to_owned());
    }
    let code = component.serialize().map_err(|error| text(&error))?;
    // Under a name of its own first: a reader finds all of it or nothing.
    let draft = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
    let written = options
        .open(&draft)
        .and_then(|mut file| file.write_all(&code))
        .and_then(|()| std::fs::rename(&draft, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&draft);
        text(&error)
    })?;
    prune(dir);
    Ok(())
}

/// Removes all but the newest files: every version of guest and wasmtime leaves one.
fn prune(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let ours = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "cwasm");
    let age = |path: PathBuf| Some((path.metadata().ok()?.modified().ok()?, path));
    let mut files: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(ours).filter_map(age).collect();
    files.sort();
    files.reverse();
    for (_, path) in files.into_iter().skip(KEPT) {
        // Another process may have been quicker.
        let _ = std::fs::remove_file(path);
    }
}

/// SHA-256 as a hasher, so that names do not depend on the standard library's.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::{Engine as Sandboxes, EngineConfig};
    use std::os::unix::fs::PermissionsExt;

    fn engine_with(dir: &std::path::Path) -> Sandboxes {
        let config = EngineConfig { max_cells: 1, cache_dir: Some(dir.to_owned()) };
        Sandboxes::new(&config).unwrap()
    }

    fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
        let mut files: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn compiled_code_is_kept_for_this_user_alone_and_stale_files_go() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("cellblock");
        std::fs::create_dir(&dir).unwrap();
        for number in 0..super::KEPT + 3 {
            std::fs::write(dir.join(format!("guest-{number}.cwasm")), "stale").unwrap();
        }
        engine_with(&dir);
        let kept = files(&dir);
        assert_eq!(kept.len(), super::KEPT);
        let newest = kept.iter().find(|path| path.metadata().unwrap().len() > 1000).unwrap();
        assert_eq!(newest.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn code_that_others_could_write_or_that_is_broken_is_not_loaded() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("cellblock");
        engine_with(&dir);
        let file = files(&dir).remove(0);
        // Broken: compiled anew, and replaced.
        std::fs::write(&file, "not compiled code").unwrap();
        engine_with(&dir);
        assert!(file.metadata().unwrap().len() > 1000);
        // Writable by others: left alone, and the run goes on without it.
        std::fs::write(&file, "not compiled code").unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
        engine_with(&dir);
        assert_eq!(file.metadata().unwrap().len(), 17);
    }
}
