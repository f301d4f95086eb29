//! Network parts.
