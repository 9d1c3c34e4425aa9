//! Which image a service runs on: built from `images/`, or another of the same contract.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
};

use tokio::{process::Command, sync::Mutex};

use super::docker;
use crate::error::{Context, Error, Result};

const BUILDER: &str = "images/build";

fn builder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(BUILDER)
}

/// What the builder has told this process: its answer covers every input of an image and takes a while.
static TOLD: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);

/// The image of a name, with its tag: that of the variable `CHANGEPROOF_NAME_IMAGE`, or the one that `images/NAME` gives.
///
/// # Errors
/// The builder can't be run.
pub async fn tag_of(name: &str) -> Result<String> {
    let variable = format!("CHANGEPROOF_{}_IMAGE", name.to_uppercase().replace('-', "_"));
    if let Some(image) = std::env::var(variable).ok().filter(|image| !image.is_empty()) {
        return Ok(image);
    }
    let mut told = TOLD.lock().await;
    if let Some(tag) = told.get(name) {
        return Ok(tag.clone());
    }
    let doing = || format!("tell the image of {name}");
    let output = Command::new(builder()).arg("--tag").arg(name).output().await;
    let output = output.while_doing(BUILDER, doing())?;
    let tag = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !tag.is_empty() {
        told.insert(name.to_owned(), tag.clone());
        Ok(tag)
    } else {
        Err(Error::new(BUILDER, doing(), String::from_utf8_lossy(&output.stderr)))
    }
}

/// Builds or pulls the image of a name if the engine lacks it, and returns its tag. Progress goes to stderr.
///
/// # Errors
/// The build fails: its own message is on stderr.
pub(crate) async fn ensure(name: &str) -> Result<String> {
    let tag = tag_of(name).await?;
    if !docker::has_image(&tag).await? {
        let built = Command::new(builder())
            .arg(name)
            .stdout(Stdio::from(std::io::stderr()))
            .status()
            .await
            .while_doing(BUILDER, format!("build {name}"))?;
        if !built.success() {
            return Err(Error::new(BUILDER, format!("build {name}"), built)
                .help(format!("see its message above; `{BUILDER} {name}` tries again")));
        }
    }
    Ok(tag)
}
