//! Whose files in a container have to be, from the user its image names. Sans-io.

/// Numbers of a user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
}

impl User {
    /// The user everything runs as when an image names none.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };

    /// Reads Docker's `Config.User` as far as it needs no look into the container: nothing, a
    /// number, or two with a colon between. A number without a group means group 0.
    pub fn numeric(text: &str) -> Option<Self> {
        let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
        Some(Self { uid: number(uid)?, gid: number(gid)? })
    }

    /// Finds the name before the colon in `/etc/passwd`; a group given by name is not looked up,
    /// the user's own stands for it.
    pub fn named(text: &str, passwd: &str) -> Option<Self> {
        let (name, group) = text.split_once(':').unwrap_or((text, ""));
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if name.is_empty() || fields.next() != Some(name) {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok()?;
            let own = fields.next()?.parse().ok()?;
            Some(Self { uid, gid: group.parse().unwrap_or(own) })
        })
    }
}

fn number(text: &str) -> Option<u64> {
    if text.is_empty() || text == "root" {
        return Some(0);
    }
    text.parse::<u32>().ok().map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken:x\nnode:x:1000:1001::/home/node:\n";

    #[test]
    fn numbers_need_no_look_into_the_container() {
        for (text, expect) in [
            ("", Some((0, 0))),
            ("root", Some((0, 0))),
            ("0", Some((0, 0))),
            ("33", Some((33, 0))),
            ("33:44", Some((33, 44))),
            ("root:root", Some((0, 0))),
            ("node", None),
            ("33:www", None),
            ("4294967296", None),
            ("-1", None),
        ] {
            let expect = expect.map(|(uid, gid)| User { uid, gid });
            assert_eq!(User::numeric(text), expect, "{text}");
        }
    }

    #[test]
    fn names_are_found_in_passwd() {
        for (text, expect) in [
            ("node", Some((1000, 1001))),
            ("node:5", Some((1000, 5))),
            ("node:www", Some((1000, 1001))),
            ("nobody", None),
            ("broken", None),
            (":1", None),
        ] {
            let expect = expect.map(|(uid, gid)| User { uid, gid });
            assert_eq!(User::named(text, PASSWD), expect, "{text}");
        }
    }
}
