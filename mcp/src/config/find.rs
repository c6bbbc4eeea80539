//! Where the configuration is.

use std::path::{Path, PathBuf};

/// The file of a project, in its folder.
pub const PROJECT_FILE: &str = ".mcp.json";

/// The configuration that is used when none is named: that of the project in this folder,
/// or else the user's. `None` when there is neither.
pub fn find() -> Option<PathBuf> {
    let project = PathBuf::from(PROJECT_FILE);
    let user = user_file();
    [Some(project), user].into_iter().flatten().find(|path| path.is_file())
}

/// The user's configuration: `cellblock/mcp.json` in `$XDG_CONFIG_HOME`, or in `~/.config`.
/// `None` when the user has no home.
pub fn user_file() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = of("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(Path::new(&of("HOME")?).join(".config")))?;
    Some(folder.join("cellblock").join("mcp.json"))
}
