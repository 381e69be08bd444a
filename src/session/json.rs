//! Who a framework's session belongs to, as its data says.

use serde_json::Value;

/// An owner is named by a text or a number; anything else is nobody.
pub(super) fn name(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
