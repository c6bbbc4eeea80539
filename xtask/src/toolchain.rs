//! Finds the tools that build the components, as `scripts/guest-toolchain.sh` installs them.

use crate::component::{GUEST, Part};
use crate::manifest::{hash, sources};
use crate::profile;
use crate::quickjs;
use crate::root;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const TARGET: &str = "wasm32-wasip1";
/// Where Debian's rustc looks for the target.
const DEBIAN_LIB: &str = "/usr/lib/rustlib/wasm32-wasip1/lib";

/// How the engine's C code is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// For use, by the profile.
    Profiled,
    /// So that it counts what a profile is made of.
    Counting,
}

/// A Rust toolchain that has the target, and the flags that go with it.
pub struct Toolchain {
    cargo: &'static str,
    rustc: &'static str,
}

impl Toolchain {
    /// The installed toolchain, or `None` when there is none.
    pub fn find() -> Option<Self> {
        let found = [
            ("cargo", "rustc", rustup_has_target()),
            ("/usr/bin/cargo", "/usr/bin/rustc", Path::new(DEBIAN_LIB).exists()),
        ];
        let (cargo, rustc, _) = found.into_iter().find(|(_, _, there)| *there)?;
        let c_tools =
            ["clang-19", "llvm-ar-19", "llvm-profdata-19", "wasm-ld-19", "cargo-component"];
        let there = |tool: &&str| Command::new(tool).arg("--version").output().is_ok();
        c_tools.iter().all(there).then_some(Self { cargo, rustc })
    }

    /// The versions that decide what the component is made of.
    pub fn versions(&self) -> Result<BTreeMap<String, String>> {
        [
            ("rustc", vec![self.rustc, "--version"]),
            ("cargo-component", vec!["cargo-component", "--version"]),
            ("clang", vec!["clang-19", "--version"]),
            ("lld", vec!["wasm-ld-19", "--version"]),
        ]
        .into_iter()
        .map(|(name, command)| Ok((name.to_owned(), first_line(&command)?)))
        .collect()
    }

    /// Builds a component and returns its bytes.
    pub fn build(&self, part: &Part, engine: Engine) -> Result<Vec<u8>> {
        let root = root().canonicalize()?;
        let folder = root.join(part.folder);
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), Into::into)
            .join(part.folder);
        let cargo_home = std::env::var("CARGO_HOME")
            .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
            .context("neither CARGO_HOME nor HOME is set")?;
        // Paths are mapped away so that the result does not depend on where it is built.
        let rust_flags = format!(
            "-Clink-arg=-zstack-size={} \
             -Ctarget-feature=+simd128,+bulk-memory,+nontrapping-fptoint,+sign-ext \
             --remap-path-prefix={cargo_home}=/cargo --remap-path-prefix={}=/cellblock",
            part.stack_bytes,
            root.display()
        );
        let mut command = Command::new("cargo-component");
        command
            .args(["build", "--release", "--locked", "--target", TARGET])
            .current_dir(&folder)
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("CARGO", self.cargo)
            .env("RUSTC", self.rustc)
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_TARGET_WASM32_WASIP1_LINKER", "wasm-ld-19")
            .env("RUSTFLAGS", rust_flags);
        if part.has_engine {
            self.add_engine(&mut command, &folder, &target, &cargo_home, engine)?;
        }
        let status = command.status().context("cannot run cargo-component")?;
        if !status.success() {
            bail!("cargo-component failed; its output is above");
        }
        if part.has_engine && engine == Engine::Profiled {
            profile::check(&target, &c_sources()?)?;
        }
        let built = target.join(TARGET).join(format!("release/cellblock_{}.wasm", part.folder));
        std::fs::read(&built).with_context(|| format!("cannot read {}", built.display()))
    }

    /// Adds the JavaScript engine and the C compiler to a build.
    fn add_engine(
        &self,
        command: &mut Command,
        guest: &Path,
        target: &Path,
        cargo_home: &str,
        engine: Engine,
    ) -> Result<()> {
        let folder = quickjs::edited(self.cargo, guest)?;
        let sources = c_sources()?;
        // Functions are found in a profile by their file's name, and not by its path; values
        // such as the targets of calls are not counted.
        let profile_flags = match engine {
            Engine::Profiled => {
                profile::log_diagnostics(command, target, &sources);
                profile::use_flags(target)?
            }
            Engine::Counting => {
                command.args(["--features", "profile"]);
                "-fprofile-generate".to_owned()
            }
        };
        // cargo does not watch the C sources; their hash among the flags reports changes.
        let c_flags = format!(
            "-DCELLBLOCK_SOURCES={sources} --target=wasm32-wasi -isystem /usr/include/wasm32-wasi \
             -I{}/quickjs -include {}/quickjs/wasm.h \
             -O3 -DNDEBUG -msimd128 -mbulk-memory -mnontrapping-fptoint -msign-ext \
             {profile_flags} -mllvm -static-func-full-module-prefix=false -mllvm -disable-vp \
             -ffile-prefix-map={}=/target -ffile-prefix-map={cargo_home}=/cargo",
            guest.display(),
            guest.display(),
            target.display(),
        );
        command
            // The edited engine takes the place of the package; the lock file stays as it is.
            .arg(format!("--config=paths=[{:?}]", folder.display().to_string()))
            .env("RQUICKJS_SYS_NO_WASI_SDK", "1")
            .env("CC_wasm32_wasip1", "clang-19")
            .env("AR_wasm32_wasip1", "llvm-ar-19")
            .env("CFLAGS_wasm32_wasip1", c_flags);
        Ok(())
    }
}

/// One hash over our C code, the edits and the profile.
fn c_sources() -> Result<String> {
    let files = sources(&GUEST)?.into_iter().filter(|(name, _)| name.starts_with("guest/quickjs/"));
    Ok(hash(files.map(|(name, hash)| name + &hash).collect::<String>().as_bytes()))
}

fn rustup_has_target() -> bool {
    let print = ["rustc", "--print", "target-libdir", "--target", TARGET];
    first_line(&print).is_ok_and(|lib| Path::new(&lib).exists())
}

fn first_line(command: &[&str]) -> Result<String> {
    let output = Command::new(command[0])
        .args(&command[1..])
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .with_context(|| format!("cannot run {}", command[0]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
