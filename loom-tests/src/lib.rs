//! Models of what threads share in `mesita_core::sync`; see `tests/` and `ci/loom`.
