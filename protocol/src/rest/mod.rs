//! REST JSON types and their forms.
