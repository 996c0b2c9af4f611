//! Bodies of the calls below `docker/exapp/` and `k8s/exapp/`, read field by field so that a
//! refusal names the field (contract 3.2 to 3.4). Sans-io.
//!
//! Keys nobody asks for are ignored, as HaRP ignores them. What was found is told by its kind,
//! never by its value: the environment of an ExApp holds secrets.

use serde_json::{Map, Value};

use super::names::{NameError, Names};

/// Why a body cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Not JSON at all.
    #[error("the body is not JSON (line {line}, column {column})")]
    NotJson {
        /// Line of the first mistake, from 1.
        line: usize,
        /// Its column.
        column: usize,
    },
    /// JSON, but not an object.
    #[error("the body is {0}, expected an object")]
    NotAnObject(&'static str),
    /// A field is missing, of the wrong type or out of range.
    #[error("{field}: found {found}, expected {expected}")]
    Field {
        /// Its name, dotted below objects and with an index in lists.
        field: String,
        /// The kind of what is there.
        found: &'static str,
        /// What should be.
        expected: &'static str,
    },
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Body of `create`.
#[derive(Clone, Debug, PartialEq)]
pub struct Create {
    /// What container and volume are called.
    pub names: Names,
    /// Reference of the image, which has been pulled before.
    pub image: String,
    /// Docker's network mode.
    pub network_mode: String,
    /// `K=V` each.
    pub environment: Vec<String>,
    /// Name of Docker's restart policy.
    pub restart_policy: String,
    /// What the ExApp computes on.
    pub device: Device,
    /// Bind mounts the administrator asked for.
    pub mounts: Vec<MountPoint>,
    /// Memory limit, bytes.
    pub memory: Option<i64>,
    /// Processor limit, billionths of a core.
    pub nano_cpus: Option<i64>,
}

/// What an ExApp computes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The processor alone.
    Cpu,
    /// NVIDIA cards.
    Cuda,
    /// AMD cards.
    Rocm,
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Path on the engine's machine.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Whether the container may not write there.
    pub read_only: bool,
}

/// Body of `remove`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remove {
    /// What container and volume are called.
    pub names: Names,
    /// Whether the volume goes too.
    pub remove_data: bool,
}

/// Body of `install_certificates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallCertificates {
    /// Which container.
    pub names: Names,
    /// Authorities Nextcloud trusts, PEM.
    pub system_certs_bundle: Option<String>,
    /// Whether the ExApp connects by FRP.
    pub install_frp_certs: bool,
}

/// Reads a body that names an ExApp and nothing else.
///
/// # Errors
/// The first field that is wrong.
pub fn exapp(body: &[u8]) -> Result<Names, PayloadError> {
    Fields::parse(body)?.names()
}

/// Reads the body of `create`.
///
/// # Errors
/// The first field that is wrong.
pub fn create(body: &[u8]) -> Result<Create, PayloadError> {
    const DEVICE: &str = "\"cpu\", \"cuda\" or \"rocm\"";
    let fields = Fields::parse(body)?;
    // What AppAPI sends for Kubernetes calls it `image`.
    let has_alias = fields.value("image_id").is_none() && fields.value("image").is_some();
    let image = fields.required(if has_alias { "image" } else { "image_id" })?;
    if image.is_empty() {
        return Err(fields.wrong("image_id", "the reference of an image"));
    }
    let network_mode = fields.text("network_mode")?.unwrap_or("bridge");
    if network_mode.is_empty() {
        return Err(fields.wrong("network_mode", "a text that is not empty"));
    }
    let restart_policy = fields.text("restart_policy")?.unwrap_or("unless-stopped");
    if !matches!(restart_policy, "" | "no" | "always" | "unless-stopped" | "on-failure") {
        let expected = "\"no\", \"always\", \"unless-stopped\" or \"on-failure\"";
        return Err(fields.wrong("restart_policy", expected));
    }
    let device = match fields.text("compute_device")? {
        None | Some("cpu") => Device::Cpu,
        Some("cuda") => Device::Cuda,
        Some("rocm") => Device::Rocm,
        Some(_) => return Err(fields.wrong("compute_device", DEVICE)),
    };
    let limits = fields.object("resource_limits")?;
    Ok(Create {
        names: fields.names()?,
        image: image.to_owned(),
        network_mode: network_mode.to_owned(),
        environment: environment(&fields)?,
        restart_policy: restart_policy.to_owned(),
        device,
        mounts: mounts(&fields)?,
        memory: limit(limits, "memory")?,
        nano_cpus: limit(limits, "nanoCPUs")?,
    })
}

/// Reads the body of `remove`.
///
/// # Errors
/// The first field that is wrong.
pub fn remove(body: &[u8]) -> Result<Remove, PayloadError> {
    let fields = Fields::parse(body)?;
    let remove_data = fields.flag("remove_data")?.unwrap_or(false);
    Ok(Remove { names: fields.names()?, remove_data })
}

/// Reads the body of `image_remove`: the image's reference.
///
/// # Errors
/// A reference Docker could not mean an image by.
pub fn image_remove(body: &[u8]) -> Result<String, PayloadError> {
    let fields = Fields::parse(body)?;
    let reference = fields.required("image_ref")?;
    if !is_reference(reference) {
        return Err(fields.wrong("image_ref", "the reference of an image"));
    }
    Ok(reference.to_owned())
}

/// Reads the body of `install_certificates`.
///
/// # Errors
/// The first field that is wrong.
pub fn install_certificates(body: &[u8]) -> Result<InstallCertificates, PayloadError> {
    let fields = Fields::parse(body)?;
    let bundle = match fields.value("system_certs_bundle") {
        Some(Value::Null) => None,
        _ => fields.text("system_certs_bundle")?,
    };
    Ok(InstallCertificates {
        names: fields.names()?,
        system_certs_bundle: bundle.filter(|text| !text.is_empty()).map(str::to_owned),
        install_frp_certs: fields.flag("install_frp_certs")?.unwrap_or(true),
    })
}

/// Whether Docker could take the text for an image: `repository[:tag][@digest]` or an id.
fn is_reference(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@[]".contains(&byte);
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
    starts && text.len() <= 512 && text.bytes().all(known) && !text.contains("..")
}

fn environment(fields: &Fields) -> Result<Vec<String>, PayloadError> {
    let mut variables = Vec::new();
    for (index, item) in fields.list("environment_variables")?.iter().enumerate() {
        // An engine would not start a container with a zero byte in its environment.
        match item.as_str().filter(|text| !text.contains('\0')) {
            Some(text) => variables.push(text.to_owned()),
            None => {
                let field = format!("environment_variables[{index}]");
                return Err(wrong(field, Some(item), "a text such as \"KEY=value\""));
            }
        }
    }
    Ok(variables)
}

fn mounts(fields: &Fields) -> Result<Vec<MountPoint>, PayloadError> {
    let mut mounts = Vec::new();
    for (index, item) in fields.list("mount_points")?.iter().enumerate() {
        let name = |key: &str| format!("mount_points[{index}].{key}");
        let text = |key: &str| match item.get(key) {
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.as_str())),
            None => Ok(None),
            found => Err(wrong(name(key), found, "a text that is not empty")),
        };
        if !item.is_object() {
            return Err(wrong(format!("mount_points[{index}]"), Some(item), "an object"));
        }
        let required = |key| text(key)?.ok_or_else(|| wrong(name(key), None, "a path"));
        mounts.push(MountPoint {
            source: required("source")?.to_owned(),
            target: required("target")?.to_owned(),
            read_only: text("mode")? == Some("ro"),
        });
    }
    Ok(mounts)
}

/// A limit; null and absent mean none. PHP writes a large whole number as `1.0e+25`.
fn limit(limits: Option<&Map<String, Value>>, key: &str) -> Result<Option<i64>, PayloadError> {
    let Some(value) = limits.and_then(|limits| limits.get(key)) else { return Ok(None) };
    let whole = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        _ => None,
    };
    match whole {
        Some(whole) if whole >= 0 => Ok(Some(whole)),
        _ => {
            let expected = "a whole number that is not negative, or null";
            Err(wrong(format!("resource_limits.{key}"), Some(value), expected))
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range before")]
fn whole(number: f64) -> Option<i64> {
    const SAFE: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= SAFE).then_some(number as i64)
}

/// An object that is read by names.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(other) => Err(PayloadError::NotAnObject(kind(Some(&other)))),
            Err(error) => Err(PayloadError::NotJson { line: error.line(), column: error.column() }),
        }
    }

    fn names(&self) -> Result<Names, PayloadError> {
        let name = self.required("name")?;
        let instance_id = self.text("instance_id")?.unwrap_or_default();
        let role_suffix = self.text("role_suffix")?.unwrap_or_default();
        Ok(Names::new(name, instance_id, role_suffix)?)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    fn text(&self, key: &str) -> Result<Option<&str>, PayloadError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a text")),
        }
    }

    /// A text that must be there.
    fn required(&self, key: &str) -> Result<&str, PayloadError> {
        self.text(key)?.ok_or_else(|| self.wrong(key, "a text"))
    }

    /// True or false, or 1 or 0 for it.
    fn flag(&self, key: &str) -> Result<Option<bool>, PayloadError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::Number(number)) if number.as_u64() == Some(0) => Ok(Some(false)),
            Some(Value::Number(number)) if number.as_u64() == Some(1) => Ok(Some(true)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    fn list(&self, key: &str) -> Result<&[Value], PayloadError> {
        match self.value(key) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.wrong(key, "a list")),
        }
    }

    fn object(&self, key: &str) -> Result<Option<&Map<String, Value>>, PayloadError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields)),
            Some(_) => Err(self.wrong(key, "an object")),
        }
    }

    fn wrong(&self, key: &str, expected: &'static str) -> PayloadError {
        wrong(key.to_owned(), self.value(key), expected)
    }
}

fn wrong(field: String, found: Option<&Value>, expected: &'static str) -> PayloadError {
    PayloadError::Field { field, found: kind(found), expected }
}

fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "nothing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "true or false",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(text)) if text.is_empty() => "an empty text",
        Some(Value::String(_)) => "a text",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    }
}

#[cfg(test)]
mod tests;
