//! Several machines of real nodes on a switch: forming a cluster, and every way to hurt one.
//!
//! Each test has hosts of its own, in network namespaces; how many are at work at once is the
//! harness's concern. Durations are measured and printed; what must hold has generous bounds.

mod absence;
mod blackout;
mod clocks;
mod cluster;
mod forming;
mod founding;
mod leaders;
mod membership;
mod setup;
mod upgrade;
mod verdict;
