//! Libraries that no registry has compiled: their sources, built by a recipe.

use std::path::Path;

use crate::program::{must, tool};

pub(super) fn build(to: &Path, recipe: &str, package: &str, version: &str) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = tests
        .parent()
        .expect("the workspace")
        .join("scripts/zoo-build.sh");
    let mut bash = tool("bash", "bash");
    must(bash.arg(script).args([recipe, package, version]).arg(to));
}
