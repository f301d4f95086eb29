//! The real binary from outside: HTTP, verbs, signals, and what is left on the machine.
//!
//! Every test starts a node of its own; none depends on another's time or ports.

mod agents;
mod alone;
mod away;
mod backup;
mod bad_input;
mod checks;
mod clock;
mod containers;
mod devices;
mod drain;
mod events;
mod fetch;
mod founding;
mod golden;
mod groups;
mod hello;
mod images;
mod images_between;
mod joining;
mod pod_survival;
mod pods;
mod readiness;
mod registry;
mod relay;
mod resident;
mod resize;
mod rolling;
mod secrets;
mod strategies;
mod surface;
mod survival;
mod uninstall;
mod verbs;
mod why;
