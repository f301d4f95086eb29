//! The API over real sockets: every endpoint's row, the golden replies, access, limits, streams.

mod apps;
mod drain;
mod edges;
mod events;
mod groups;
mod outlook;
mod pods;
mod resident;
mod secrets;
mod strategies;
mod streams;
mod surface;
mod system;
mod tasks;
