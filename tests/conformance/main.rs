//! Conformance: software of others, as its authors published it, against the real binary.
//!
//! Clients from their package registries, HAProxy from Debian, and the definitions and plain
//! curls of 2015. Every test has a node of its own; what is installed lies in the target
//! directory alone. A machine that lacks something says so loudly; with `CI=true` that fails.

mod clients;
mod haproxy;
mod installed;
mod pod_samples;
mod samples;
