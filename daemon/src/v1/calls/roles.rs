//! What a role can be called. Mesos: `roles::validate`.

use mesita_core::limits::{NAME_MAX, ROLE_DEPTH_MAX};

/// What is wrong with the name of a role. Mesos: `roles::validate`.
pub(crate) fn role_trouble(role: &str) -> Option<String> {
    if role == "*" {
        return None;
    }
    if role.is_empty() {
        return Some("Empty role name is invalid".to_owned());
    }
    let trouble = |why: &str| Some(format!("Role '{}' {why}", role.escape_debug()));
    if role.len() > NAME_MAX || role.split('/').count() > ROLE_DEPTH_MAX {
        return Some(format!(
            "A role has at most {NAME_MAX} bytes, and {ROLE_DEPTH_MAX} components"
        ));
    }
    if role.starts_with('/') {
        return trouble("cannot start with a slash");
    }
    if role.ends_with('/') {
        return trouble("cannot end with a slash");
    }
    for part in role.split('/') {
        if part.is_empty() {
            return trouble("cannot contain two adjacent slashes");
        }
        if part == "." || part == ".." {
            return trouble("cannot include '.' or '..' as a component");
        }
        if part == "*" {
            return trouble("cannot include '*' as a component");
        }
        if part.starts_with('-') {
            return trouble("cannot start with '-' in a component");
        }
        let forbidden = |c: char| matches!(c, ' ' | '\\') || c.is_ascii_control();
        if part.contains(forbidden) {
            return trouble("cannot contain white space, control characters or backslashes");
        }
    }
    None
}
