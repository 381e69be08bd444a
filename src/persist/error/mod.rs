//! What can go wrong with files, said so that somebody can act on it.

mod commit;
mod compact;
mod damage;
mod disk;
mod open;
mod said;
mod write;

pub use self::commit::CommitError;
pub use self::compact::CompactError;
pub use self::damage::{Damage, Unreadable};
pub use self::disk::DiskError;
pub use self::open::OpenError;
pub use self::write::WriteError;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::LoadError;
    use crate::counter::FlushError;
    use crate::persist::check::CheckError;
    use crate::persist::{CodecError, TransactionError};
    use crate::queue::{PushError, PushManyError};
    use std::error::Error;
    use std::fmt;
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    /// An error with one behind it, as libraries make them.
    #[derive(Debug)]
    struct Layered(&'static str, Option<Box<Self>>);

    impl fmt::Display for Layered {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layered {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|inner| inner as _)
        }
    }

    fn layered() -> Layered {
        let cable = Layered("the cable is out", None);
        Layered("the disk is gone", Some(Box::new(cable)))
    }

    fn disk() -> DiskError {
        DiskError::new("sync", Path::new("hay"), io::Error::other(layered()))
    }

    /// One of every type that holds another error, by its name.
    fn errors() -> Vec<(&'static str, Box<dyn Error>)> {
        let (write, commit) = (|| WriteError::Disk(disk()), || CommitError::Disk(disk()));
        let compact = || CompactError::Disk(disk());
        vec![
            ("DiskError", Box::new(disk())),
            ("OpenError", Box::new(OpenError::Disk(disk()))),
            (
                "OpenError",
                Box::new(OpenError::Unreadable(Unreadable {
                    file: "hay".into(),
                    bytes: 0..1,
                    error: disk().error,
                })),
            ),
            ("WriteError", Box::new(write())),
            ("CommitError", Box::new(commit())),
            ("CompactError", Box::new(compact())),
            ("CheckError", Box::new(CheckError::Open(disk().into()))),
            ("CheckError", Box::new(CheckError::Write(compact()))),
            ("CodecError", Box::new(CodecError::new(layered()))),
            (
                "TransactionError",
                Box::new(TransactionError::<u8>::Write(write())),
            ),
            ("FlushError", Box::new(FlushError::Write(write()))),
            ("FlushError", Box::new(FlushError::Commit(commit()))),
            ("PushError", Box::new(PushError::NotKept(1, write()))),
            ("PushError", Box::new(PushError::<u8>::Unsure(1, commit()))),
            (
                "PushManyError",
                Box::new(PushManyError {
                    pushed: vec![1],
                    error: PushError::NotKept(2, write()),
                    left: vec![3],
                }),
            ),
            (
                "LoadError",
                Box::new(LoadError::Failed(Arc::new(layered()))),
            ),
        ]
    }

    fn chain(error: &dyn Error) -> String {
        let behind = std::iter::successors(error.source(), |error| (**error).source());
        behind.fold(error.to_string(), |all, error| format!("{all}: {error}"))
    }

    #[test]
    fn a_chain_that_is_printed_says_everything_once() {
        for (name, error) in errors() {
            let said = chain(&*error);
            for part in ["the disk is gone", "the cable is out"] {
                assert_eq!(said.matches(part).count(), 1, "{name}: {said}");
            }
        }
    }

    #[test]
    fn what_the_disk_says_comes_with_what_can_be_done() {
        use io::ErrorKind::{
            FileTooLarge, NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull,
        };
        for (kind, advice) in [
            (StorageFull, Some("; free some space")),
            (FileTooLarge, Some("; free some space, or raise the limit")),
            (ReadOnlyFilesystem, Some("RecoveryMode::ReadOnly opens")),
            (PermissionDenied, Some("RecoveryMode::ReadOnly opens")),
            (NotFound, None),
        ] {
            let said = DiskError::new("lock", Path::new("hay"), kind.into()).to_string();
            let expected = format!("cannot lock hay: {}", io::Error::from(kind));
            match advice {
                Some(advice) => assert!(said.contains(advice), "{said}"),
                None => assert_eq!(said, expected),
            }
        }
    }

    /// The types of errors of which some source file says that another lies behind them.
    fn with_sources(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                with_sources(&path, found);
                continue;
            }
            let text = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&text);
            let starts = text.lines().filter(|line| line.starts_with("impl"));
            let types = starts.filter_map(|line| line.split_once("Error for "));
            let names = types.filter_map(|(_, of)| of.strip_suffix(" {"));
            found.extend(names.map(|name| name.split('<').next().unwrap_or(name).to_owned()));
        }
    }

    #[test]
    fn every_error_that_has_another_behind_it_is_tried() {
        let mut found = Vec::new();
        with_sources(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut found,
        );
        assert!(found.len() >= 10, "{found:?}");
        for name in found {
            let is_tried = errors().iter().any(|(tried, _)| *tried == name);
            assert!(is_tried, "{name} has no example here");
        }
    }
}
