//! Packages that tests take from npm.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than a download takes.
const PATIENCE: Duration = Duration::from_mins(5);
/// How often it is looked whether npm has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Installs packages in a folder, which is made when it is missing. Where that cannot be done
/// it prints a notice and returns false, and what needs them is not tested.
#[allow(clippy::print_stdout, reason = "a test that cannot be run says so")]
pub fn npm_install(folder: &Path, packages: &[&str]) -> bool {
    let installed = install(folder, packages);
    if let Err(why) = &installed {
        let packages = packages.join(" ");
        println!("NOTICE: npm cannot install {packages}, so what needs it was not tested: {why}");
    }
    installed.is_ok()
}

fn install(folder: &Path, packages: &[&str]) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    std::fs::create_dir_all(folder).map_err(failed)?;
    let log = folder.join("npm.log");
    let mut npm = Command::new("npm")
        .args(["install", "--prefer-offline", "--no-audit", "--no-fund", "--prefix"])
        .arg(folder)
        .args(packages)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log).map_err(failed)?)
        .spawn()
        .map_err(failed)?;
    let started = Instant::now();
    loop {
        match npm.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => return Err(std::fs::read_to_string(&log).unwrap_or_default()),
            None if started.elapsed() > PATIENCE => {
                let _ = npm.kill();
                let _ = npm.wait();
                return Err(format!("it has not ended after {} minutes", PATIENCE.as_secs() / 60));
            }
            None => std::thread::sleep(LOOK),
        }
    }
}
