//! The REST JSON of the Marathon-compatible API: reading requests, writing answers.
//!
//! Owns the text forms alone. What a definition means, its defaults and its rules live in the
//! master's `normalize` and in `core::validate`; nothing here touches state or a clock.

pub mod app;
pub mod classic;
pub mod deployment;
pub mod error;
pub mod event;
pub mod group;
pub mod number;
pub mod parse;
pub mod pod;
pub mod probing;
pub mod queue;
pub mod system;
pub mod task;
pub mod update;
pub mod version;
