//! The nouns: what the cluster knows, in the field's own words (Mesos, Marathon).

mod agent;
mod app;
mod assignment;
mod check;
mod container;
mod defaults;
mod deployment;
mod id;
mod instance;
mod node;
mod offer;
mod ports;
mod query;
mod probing;
mod resources;
mod state;
mod time;
mod timestamp;

pub use agent::*;
pub use app::*;
pub use assignment::*;
pub use check::*;
pub use container::*;
pub use defaults::*;
pub use deployment::*;
pub use id::*;
pub use instance::*;
pub use node::*;
pub use offer::*;
pub use ports::*;
pub use query::*;
pub use resources::*;
pub use probing::*;
pub use state::*;
pub use time::*;
