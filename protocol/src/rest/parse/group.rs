//! Groups: the tree of a request, each app in it read as one sent alone would be.

use super::pod::pod;
use super::read::{self, Errors, Object};
use super::{FACTOR_MAX, finish, one, version};
use crate::rest::error::FieldError;
use crate::rest::group::GroupUpdate;
use crate::rest::number::PPM;
use serde_json::Value;

/// Read a group with everything in it.
///
/// # Errors
/// Every wrong type and broken schema limit, at `/groups(0)/apps(1)/cmd` and the like.
pub fn group_update(body: &Value) -> Result<GroupUpdate, Vec<FieldError>> {
    let mut errors = Errors::default();
    finish(group(&mut errors, "", body), errors)
}

/// Read the body of `PATCH /v2/groups/{id}`: whether apps must use the group's role.
///
/// # Errors
/// When `enforceRole` is missing or no boolean.
pub fn enforce_role(body: &Value) -> Result<bool, Vec<FieldError>> {
    let mut errors = Errors::default();
    let read = Object::open(&mut errors, "", body)
        .and_then(|object| object.required(&mut errors, "enforceRole", read::boolean));
    finish(read, errors)
}

fn group(errors: &mut Errors, path: &str, value: &Value) -> Option<GroupUpdate> {
    let object = Object::open(errors, path, value)?;
    Some(GroupUpdate {
        id: object.field(errors, "id", read::text),
        apps: object.field(errors, "apps", |e, p, v| read::list(e, p, v, one)),
        pods: object.field(errors, "pods", |e, p, v| read::list(e, p, v, pod)),
        groups: object.field(errors, "groups", |e, p, v| read::list(e, p, v, group)),
        dependencies: object.field(errors, "dependencies", read::texts),
        scale_by_ppm: object
            .field(errors, "scaleBy", |e, p, v| read::decimal(e, p, v, PPM, (0, FACTOR_MAX))),
        version: object.field(errors, "version", version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::update::Field;
    use serde_json::json;

    #[test]
    fn trees_are_read_with_every_mistake_at_its_place() {
        let body = json!({
            "id": "g", "apps": [{"id": "a"}], "dependencies": ["../x"],
            "groups": [{"id": "h", "apps": [], "pods": []}, {"id": "i"}],
        });
        let update = group_update(&body).unwrap();
        assert_eq!(update.dependencies, Field::Given(vec!["../x".into()]));
        let groups = update.groups.given().unwrap();
        assert_eq!(groups[0].apps, Field::Given(Vec::new()));
        assert_eq!(groups[1].apps, Field::Absent);
        assert!(!update.goes_alone());
        for alone in
            [json!({"scaleBy": 1.5}), json!({"id": "/g", "version": "2016-01-02T03:04:05.678Z"})]
        {
            assert!(group_update(&alone).unwrap().goes_alone(), "{alone}");
        }
        let scale = group_update(&json!({"scaleBy": 1.5})).unwrap();
        assert_eq!(scale.scale_by_ppm, Field::Given(1_500_000));

        let wrong = json!({
            "apps": [{"cmd": "x"}, {"cmd": 7}], "scaleBy": -1,
            "groups": [{"apps": [{}, {"instances": "x"}]}, 3],
        });
        let paths: Vec<String> =
            group_update(&wrong).unwrap_err().into_iter().map(|error| error.path).collect();
        let expected = ["/apps(1)/cmd", "/groups(0)/apps(1)/instances", "/groups(1)", "/scaleBy"];
        assert_eq!(paths, expected);
    }

    #[test]
    fn the_role_switch_is_a_boolean() {
        assert_eq!(enforce_role(&json!({"enforceRole": true})), Ok(true));
        assert_eq!(
            enforce_role(&json!({})),
            Err(vec![FieldError::new("/enforceRole", "error.path.missing")])
        );
        assert_eq!(
            enforce_role(&json!({"enforceRole": 1})),
            Err(vec![FieldError::new("/enforceRole", "error.expected.jsboolean")])
        );
    }
}
