//! Who a container runs as, from the text of its own `passwd` and `group` files. Pure; libc's
//! lookups are refused because in a static binary they load the image's own NSS plugins as root.

use thiserror::Error;

/// Largest uid or gid: the kernel keeps the last one for "unchanged".
const ID_MAX: u32 = u32::MAX - 1;

#[derive(Debug, PartialEq, Eq, Error)]
pub enum UserError {
    #[error("no user {0:?} in the container's /etc/passwd")]
    NoUser(String),
    #[error("no group {0:?} in the container's /etc/group")]
    NoGroup(String),
}

/// The resolved identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Resolve `user` (`None` = root) as Docker does: an unknown number is allowed, an unknown name
/// is not, and a named group replaces the supplementary ones.
///
/// # Errors
/// A name that is in neither file.
pub fn resolve(
    user: Option<&str>,
    extra_groups: &[String],
    passwd: &str,
    group: &str,
) -> Result<Identity, UserError> {
    let text = user.filter(|u| !u.is_empty()).unwrap_or("0");
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    // Names win over numbers, so that a user called "1000" can exist.
    let line = passwd_lines(passwd)
        .find(|l| l.name == user)
        .or_else(|| passwd_lines(passwd).find(|l| number(user) == Some(l.uid)));
    let (uid, mut gid, home) = match (&line, number(user)) {
        (Some(line), _) => (line.uid, line.gid, line.home),
        (None, Some(uid)) => (uid, 0, "/"),
        (None, None) => return Err(UserError::NoUser(user.to_string())),
    };
    let mut groups = Vec::new();
    match wanted_group {
        Some(wanted) => gid = group_id(wanted, group)?,
        None => {
            if let Some(line) = &line {
                groups.extend(member_groups(line.name, group).filter(|g| *g != gid));
            }
        }
    }
    for extra in extra_groups {
        groups.push(group_id(extra, group)?);
    }
    if gid != 0 || !groups.is_empty() {
        // The kernel checks a file's group against this list only where it has one; a primary
        // group left out of it could be shed with setgid (CVE-2022-36109).
        groups.push(gid);
    }
    groups.sort_unstable();
    groups.dedup();
    let home = if home.is_empty() { "/" } else { home };
    Ok(Identity { uid, gid, groups, home: home.to_string() })
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= ID_MAX)
}

fn passwd_lines(passwd: &str) -> impl Iterator<Item = PasswdLine<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(PasswdLine { name, uid, gid, home })
    })
}

fn group_id(wanted: &str, group: &str) -> Result<u32, UserError> {
    group_lines(group)
        .find(|(name, ..)| *name == wanted)
        .map(|(_, gid, _)| gid)
        .or_else(|| number(wanted))
        .ok_or_else(|| UserError::NoGroup(wanted.to_string()))
}

fn member_groups<'a>(name: &'a str, group: &'a str) -> impl Iterator<Item = u32> + 'a {
    group_lines(group)
        .filter(move |(_, _, members)| members.split(',').any(|m| m.trim() == name))
        .map(|(_, gid, _)| gid)
}

fn group_lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        let gid = number(fields.nth(1)?)?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:w:/srv:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\naudio:x:29:web,other\nvideo:x:44:other\n";

    #[test]
    fn users_resolve_as_docker_does() {
        type Case = (Option<&'static str>, u32, u32, &'static [u32], &'static str);
        let cases: [Case; 9] = [
            (None, 0, 0, &[], "/root"),
            (Some(""), 0, 0, &[], "/root"),
            (Some("web"), 33, 34, &[29, 34], "/srv"),
            (Some("33"), 33, 34, &[29, 34], "/srv"),
            (Some("1000"), 1000, 0, &[], "/"),
            (Some("1000:44"), 1000, 44, &[44], "/"),
            (Some("web:video"), 33, 44, &[44], "/srv"),
            (Some("web:"), 33, 34, &[29, 34], "/srv"),
            (Some("0:777"), 0, 777, &[777], "/root"),
        ];
        for (user, uid, gid, groups, home) in cases {
            let got = resolve(user, &[], PASSWD, GROUP).expect("resolves");
            let want = Identity { uid, gid, groups: groups.to_vec(), home: home.into() };
            assert_eq!(got, want, "{user:?}");
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        assert_eq!(
            resolve(Some("nobody"), &[], PASSWD, GROUP),
            Err(UserError::NoUser("nobody".into()))
        );
        assert_eq!(
            resolve(Some("web:staff"), &[], PASSWD, GROUP),
            Err(UserError::NoGroup("staff".into()))
        );
        assert!(resolve(Some("4294967295"), &[], PASSWD, GROUP).is_err(), "the kernel's -1");
        assert!(resolve(Some("-5"), &[], "", "").is_err());
    }

    #[test]
    fn extra_groups_add_up() {
        let extra = ["video".to_string(), "1234".to_string()];
        let got = resolve(Some("web"), &extra, PASSWD, GROUP).expect("resolves");
        assert_eq!(got.groups, [29, 34, 44, 1234]);
    }
}
