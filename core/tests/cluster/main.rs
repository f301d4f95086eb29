//! The core as a whole, through its public interface: tables over the state machine, and
//! properties over random histories.

mod agents;
mod apps;
mod away;
mod bench;
mod corners;
mod devices;
mod drain;
mod groups;
mod history;
mod instances;
mod placing;
mod pods;
mod rebalance;
mod resident;
mod resizing;
mod rolling;
mod secrets;
mod strategies;
