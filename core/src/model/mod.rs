//! The nouns: what the cluster knows, in the field's own words (Mesos, Marathon).

mod agent;
mod app;
mod assignment;
mod check;
mod container;
mod deployment;
mod id;
mod instance;
mod node;
mod offer;
mod resources;
mod state;
mod time;

pub use agent::*;
pub use app::*;
pub use assignment::*;
pub use check::*;
pub use container::*;
pub use deployment::*;
pub use id::*;
pub use instance::*;
pub use node::*;
pub use offer::*;
pub use resources::*;
pub use state::*;
pub use time::*;
