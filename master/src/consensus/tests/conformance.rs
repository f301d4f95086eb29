//! openraft's own test suite for log stores and state machines, over ours.

use super::*;
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

struct InTempDir;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for InTempDir {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), types::StorageError> {
        let dir = tempfile::tempdir().expect("a directory");
        let stores = open_stores(&config(dir.path(), 0), APPLY).expect("opens");
        Ok((dir, LogStore::new(stores.disk), stores.machine))
    }
}

#[test]
fn the_stores_keep_openrafts_contract() {
    Suite::test_all(InTempDir).expect("conforms");
}
