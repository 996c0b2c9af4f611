//! Names of an ExApp's container and volume (contract 3.2). Sans-io.
//!
//! HaRP puts `name` into the engine's URL as it comes, so that `x/../../containers/other` is
//! another container (weakness W19). Here only what Docker itself takes as a name gets that far.

use std::fmt;

/// Longest part of a name, bytes; Docker sets no limit of its own.
const LONGEST: usize = 128;

/// What an ExApp's container and volume are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    app: String,
    container: String,
    volume: String,
}

/// A part of a name that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: not a name; use letters, digits, `_`, `.` and `-`, at most {LONGEST}{}", self.first())]
pub struct NameError {
    /// The field of the request.
    pub field: &'static str,
}

impl NameError {
    fn first(&self) -> &'static str {
        if self.field == "name" { ", a letter or digit first" } else { "" }
    }
}

impl Names {
    /// Composes the names; `instance_id` and `role_suffix` may be empty.
    ///
    /// # Errors
    /// The first part Docker would not take.
    pub fn new(name: &str, instance_id: &str, role_suffix: &str) -> Result<Self, NameError> {
        if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            return Err(NameError { field: "name" });
        }
        let parts = [("name", name), ("instance_id", instance_id), ("role_suffix", role_suffix)];
        if let Some((field, _)) = parts.into_iter().find(|(_, part)| !is_part(part)) {
            return Err(NameError { field });
        }
        let base = match instance_id {
            "" => format!("nc_app_{name}"),
            instance => format!("nc_app_{instance}_{name}"),
        };
        let volume = format!("{base}_data");
        let container = match role_suffix {
            "" => base,
            role => format!("{base}_{role}"),
        };
        Ok(Self { app: name.to_owned(), container, volume })
    }

    /// The ExApp's id as AppAPI wrote it.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// Name of the container.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// Name of the volume, which all roles of an ExApp share.
    pub fn volume(&self) -> &str {
        &self.volume
    }

    /// Where the volume is mounted.
    pub fn mount_point(&self) -> String {
        format!("/{}", self.volume)
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.container)
    }
}

fn is_part(part: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    part.len() <= LONGEST && part.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_composed_as_harp_composes_them() {
        for (parts, container, volume) in [
            (["demo", "", ""], "nc_app_demo", "nc_app_demo_data"),
            (["demo", "oc1", ""], "nc_app_oc1_demo", "nc_app_oc1_demo_data"),
            (["demo", "", "rp"], "nc_app_demo_rp", "nc_app_demo_data"),
            (["de.mo-1_x", "oc1", "rp"], "nc_app_oc1_de.mo-1_x_rp", "nc_app_oc1_de.mo-1_x_data"),
        ] {
            let names = Names::new(parts[0], parts[1], parts[2]).unwrap();
            assert_eq!((names.container(), names.volume()), (container, volume));
            assert_eq!(names.mount_point(), format!("/{volume}"));
            assert_eq!(names.app(), parts[0]);
        }
    }

    #[test]
    fn w19_a_name_cannot_lead_to_another_container() {
        for name in [
            "x/../../containers/other",
            "..",
            ".x",
            "-x",
            "_x",
            "",
            "x/y",
            "x%2f..",
            "x?force=true",
            "x#",
            "x y",
            "x\n",
            "caf\u{e9}",
            &"x".repeat(LONGEST + 1),
        ] {
            assert_eq!(Names::new(name, "", "").unwrap_err().field, "name", "{name:?}");
        }
        assert_eq!(Names::new("x", "a/b", "").unwrap_err().field, "instance_id");
        assert_eq!(Names::new("x", "", "../y").unwrap_err().field, "role_suffix");
    }
}
