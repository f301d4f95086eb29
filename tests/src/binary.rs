//! Where the binary under test is.

use std::path::PathBuf;

/// `BRAMBLE_BIN`, or the debug binary beside this test's own.
pub fn bramble() -> PathBuf {
    if let Ok(given) = std::env::var("BRAMBLE_BIN") {
        return PathBuf::from(given);
    }
    let own = std::env::current_exe().expect("a test knows its own path");
    let profile = own.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    let path = profile.join("bramble");
    assert!(path.exists(), "{} is missing: `make test` builds it first", path.display());
    path
}

/// The release before this one (`BRAMBLE_PREVIOUS`, which `make test` sets from the first tag on).
pub fn previous() -> Option<PathBuf> {
    let given = std::env::var_os("BRAMBLE_PREVIOUS").filter(|path| !path.is_empty())?;
    let path = PathBuf::from(given);
    assert!(path.exists(), "BRAMBLE_PREVIOUS is {}, which is missing", path.display());
    Some(path)
}
