//! A folder that appears whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use tempfile::TempDir;

use crate::{Error, Result};

/// Names of folders that are being written.
const PREFIX: &str = ".medsiglip-";

/// Makes `target` from what `fill` writes into a folder beside it, which is then renamed.
///
/// A folder of that name is replaced where it is empty or all in it are files whose names are `ours`; until the new one
/// is complete and on the disk, it stays as it is. (Between two renames there is none of that name for a moment, and
/// never half a one.)
///
/// # Errors
/// `BAD_ARGUMENT` where `target` holds other files; `IO_ERROR`; those of `fill`.
pub(crate) fn write(
    target: &Path,
    ours: fn(&str) -> bool,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let there = check(target, ours)?;
    let beside = beside(target)?;
    fill(beside.path())?;
    let create = |e| Error::io("create", target, e);
    sync(beside.path()).map_err(create)?;
    match there {
        There::Nothing => fs::rename(beside.path(), target).map_err(create)?,
        There::Empty => {
            // Not every system renames over a folder.
            fs::remove_dir(target).map_err(|e| Error::io("replace", target, e))?;
            fs::rename(beside.path(), target).map_err(create)?;
        }
        There::Ours => replace(target, beside.path())?,
    }
    // Renamed away: nothing is left to remove.
    let _ = beside.keep();
    sync(parent(target)).map_err(create)
}

/// A file of these bytes, on the disk.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        // A full disk may be told as late as here.
        file.sync_all()
    };
    write().map_err(|e| Error::io("write", path, e))
}

/// Makes sure that a file that is written is on the disk.
#[cfg(feature = "train")]
pub(crate) fn sync_file(path: &Path) -> Result<()> {
    let sync = || OpenOptions::new().write(true).open(path)?.sync_all();
    sync().map_err(|e| Error::io("write", path, e))
}

/// A copy of a file, on the disk.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let copy = || {
        io::copy(&mut File::open(from)?, &mut File::create(to)?)?;
        OpenOptions::new().write(true).open(to)?.sync_all()
    };
    copy().map_err(|e| Error::io("copy", from, e))
}

/// Whether [`write`] would replace what stands at `target`, or find nothing there.
///
/// # Errors
/// `BAD_ARGUMENT` where it holds other files; `IO_ERROR`.
#[cfg(feature = "train")]
pub(crate) fn check_target(target: &Path, ours: fn(&str) -> bool) -> Result<()> {
    check(target, ours).map(drop)
}

/// Removes what an interrupted [`write`] left in `folder`. Nobody else must be writing there.
///
/// # Errors
/// `IO_ERROR`.
#[cfg(feature = "train")]
pub(crate) fn remove_leftovers(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("read", folder, e)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("read", folder, e))?;
        if entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX))
        {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
    }
    Ok(())
}

/// What stands under a name that is to be written.
enum There {
    Nothing,
    Empty,
    Ours,
}

fn check(target: &Path, ours: fn(&str) -> bool) -> Result<There> {
    let entries = match fs::read_dir(target) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(There::Nothing),
        Err(e) => return Err(Error::io("create", target, e)),
    };
    let mut there = There::Empty;
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("read", target, e))?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file || !entry.file_name().to_str().is_some_and(ours) {
            return Err(Error::BadArgument(format!(
                "expected a new or empty folder, got one that holds files: {}",
                target.display()
            )));
        }
        there = There::Ours;
    }
    Ok(there)
}

/// Puts `new` in the place of `target`, which is removed last.
fn replace(target: &Path, new: &Path) -> Result<()> {
    let aside = beside(target)?;
    let old = aside.path().join("old");
    let failed = |e| Error::io("replace", target, e);
    fs::rename(target, &old).map_err(failed)?;
    fs::rename(new, target).map_err(|e| match fs::rename(&old, target) {
        Ok(()) => failed(e),
        Err(_) => {
            // Better a folder under another name than none.
            let kept = aside.keep();
            Error::io("put back what was in", kept, e)
        }
    })
}

/// A folder beside `target`, on the same disk; removed when dropped.
fn beside(target: &Path) -> Result<TempDir> {
    let parent = parent(target);
    fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX);
    // A temporary folder is its owner's alone; this one becomes the user's, under the usual mask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder
        .tempdir_in(parent)
        .map_err(|e| Error::io("create", parent, e))
}

/// A file in `folder` that becomes the user's, under the usual mask, when it has its name.
#[cfg(feature = "index")]
pub(crate) fn new_file(folder: &Path, prefix: &str) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn parent(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a folder's names last through a power cut, where the system lets a folder be opened for that.
fn sync(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(name: &str) -> bool {
        name.ends_with(".ours")
    }

    fn write_text(target: &Path, text: &str) -> Result<()> {
        write(target, ours, |folder| {
            write_file(&folder.join("a.ours"), text.as_bytes())
        })
    }

    fn read(target: &Path) -> String {
        fs::read_to_string(target.join("a.ours")).unwrap()
    }

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_folder_of_ours_is_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("under/new");
        for text in ["first", "second", "third"] {
            write_text(&target, text).unwrap();
            assert_eq!(read(&target), text);
            assert_eq!(names(target.parent().unwrap()), 1);
        }
        fs::remove_file(target.join("a.ours")).unwrap();
        write_text(&target, "into an empty one").unwrap();
        assert_eq!(read(&target), "into an empty one");
    }

    #[test]
    fn what_fails_leaves_the_old_folder_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("model");
        write_text(&target, "old").unwrap();
        let full = write(&target, ours, |folder| {
            write_file(&folder.join("a.ours"), b"ne")?;
            Err(Error::io(
                "write",
                "a.ours",
                io::ErrorKind::StorageFull.into(),
            ))
        });
        assert_eq!(full.unwrap_err().code(), "IO_ERROR");
        assert_eq!((read(&target).as_str(), names(dir.path())), ("old", 1));
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("model");
        write_text(&target, "old").unwrap();
        for other in ["notes.txt", "b.ours/"] {
            let path = target.join(other);
            match other.strip_suffix('/') {
                Some(_) => fs::create_dir(&path).unwrap(),
                None => fs::write(&path, "mine").unwrap(),
            }
            let error = write_text(&target, "new").unwrap_err();
            assert_eq!(error.code(), "BAD_ARGUMENT");
            assert_eq!(read(&target), "old");
            match path.is_dir() {
                true => fs::remove_dir(&path).unwrap(),
                false => fs::remove_file(&path).unwrap(),
            }
        }
        fs::write(dir.path().join("file"), "").unwrap();
        let error = write_text(&dir.path().join("file"), "new").unwrap_err();
        assert_eq!(error.code(), "IO_ERROR");
    }
}
