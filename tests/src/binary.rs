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
