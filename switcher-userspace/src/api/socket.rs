//! The socket's file.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, bail};
use tokio::net::UnixListener;

/// Listens at a path. Its directory is made; what a killed agent left there is removed.
///
/// # Errors
/// When something else is there, when another agent answers there, and when it can't be made.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let tried = || format!("listen at {}", path.display());
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("make the socket's directory {}", directory.display()))?;
    }
    clear(path).with_context(tried)?;
    let listener = UnixListener::bind(path).with_context(tried)?;
    let mode = std::fs::Permissions::from_mode(0o660);
    std::fs::set_permissions(path, mode).with_context(tried)?;
    Ok(listener)
}

fn clear(path: &Path) -> anyhow::Result<()> {
    let there = match std::fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !there.file_type().is_socket() {
        bail!("something that is no socket is there; move it away, or set agent.socket");
    }
    if UnixStream::connect(path).is_ok() {
        bail!("another agent answers there; stop it first");
    }
    std::fs::remove_file(path).context("remove the socket of an agent that has gone")
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn what_a_killed_agent_left_is_replaced() {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("run/switcher.sock");
        drop(bind(&path).expect("listens"));
        assert!(path.exists());
        let _listener = bind(&path).expect("listens again");
        let mode = std::fs::metadata(&path)
            .expect("is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660);
        let error = format!("{:#}", bind(&path).expect_err("someone listens"));
        assert!(error.contains("another agent"), "{error}");
    }

    #[tokio::test]
    async fn a_file_is_left_alone() {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("notes.txt");
        std::fs::write(&path, "important").expect("writes");
        let error = format!("{:#}", bind(&path).expect_err("is no socket"));
        assert!(error.contains("no socket"), "{error}");
        assert!(path.exists());
    }
}
