//! The frp messages this server and the built-in client exchange, as plain values.
//!
//! Field names are the JSON keys of frp 0.61 and later, the same for both wire versions. Absent
//! means zero: every field has a default when read and is left out when it holds it. Unknown
//! fields are ignored. How a message is framed lives in `wire`.
//!
//! Sans-io. Values that prove who a client is never show in `Debug`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Free key/value pairs a client attaches to a login or a proxy.
pub type Metas = BTreeMap<String, String>;

/// Any message of the control channel or the start of a work connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Login(Login),
    LoginResp(LoginResp),
    NewProxy(NewProxy),
    NewProxyResp(NewProxyResp),
    CloseProxy(CloseProxy),
    NewWorkConn(NewWorkConn),
    ReqWorkConn(ReqWorkConn),
    StartWorkConn(StartWorkConn),
    Ping(Ping),
    Pong(Pong),
    /// A message frp defines and this server has no use for (visitors, UDP, hole punching), by
    /// its v1 type byte. Its body was skipped.
    Other(u8),
}

impl Message {
    /// The message's name as frp spells it, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Login(_) => "Login",
            Self::LoginResp(_) => "LoginResp",
            Self::NewProxy(_) => "NewProxy",
            Self::NewProxyResp(_) => "NewProxyResp",
            Self::CloseProxy(_) => "CloseProxy",
            Self::NewWorkConn(_) => "NewWorkConn",
            Self::ReqWorkConn(_) => "ReqWorkConn",
            Self::StartWorkConn(_) => "StartWorkConn",
            Self::Ping(_) => "Ping",
            Self::Pong(_) => "Pong",
            Self::Other(_) => "other",
        }
    }
}

/// Client to server, first message of a control connection.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Login {
    #[serde(skip_serializing_if = "is_zero")]
    pub version: String,
    /// Sent since frp 0.67.
    #[serde(skip_serializing_if = "is_zero")]
    pub hostname: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub os: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub arch: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub user: String,
    /// Lower-case hex of MD5 over token and decimal timestamp.
    #[serde(skip_serializing_if = "is_zero")]
    pub privilege_key: String,
    /// Unix seconds of the client's clock.
    #[serde(skip_serializing_if = "is_zero")]
    pub timestamp: i64,
    /// Empty on the first login of a client process; later the id it was given before.
    #[serde(skip_serializing_if = "is_zero")]
    pub run_id: String,
    /// Sent since frp 0.67.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_id: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub metas: Metas,
    pub client_spec: ClientSpec,
    /// Work connections to keep ready. May be negative: clamp before use.
    #[serde(skip_serializing_if = "is_zero")]
    pub pool_count: i64,
}

/// Part of [`Login`]; always present on the wire, usually as `{}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientSpec {
    #[serde(rename = "type", skip_serializing_if = "is_zero")]
    pub kind: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub always_auth_pass: bool,
}

/// Server to client. An empty `error` means the login was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoginResp {
    #[serde(skip_serializing_if = "is_zero")]
    pub version: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub run_id: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub error: String,
}

/// Client to server: asks for a proxy. Only what a TCP proxy needs is kept; the fields of the
/// HTTP, visitor and multiplexer types are read over, since those types are refused.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewProxy {
    #[serde(skip_serializing_if = "is_zero")]
    pub proxy_name: String,
    /// Empty means `tcp`.
    #[serde(skip_serializing_if = "is_zero")]
    pub proxy_type: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub use_encryption: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub use_compression: bool,
    /// A number with unit `MB` or `KB` (1024-based) per second.
    #[serde(skip_serializing_if = "is_zero")]
    pub bandwidth_limit: String,
    /// Empty means `client`: the server has nothing to enforce.
    #[serde(skip_serializing_if = "is_zero")]
    pub bandwidth_limit_mode: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub group: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub group_key: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub metas: Metas,
    #[serde(skip_serializing_if = "is_zero")]
    pub annotations: Metas,
    /// As the client sent it; not every value is a port.
    #[serde(skip_serializing_if = "is_zero")]
    pub remote_port: i64,
}

/// Server to client. A non-empty `error` parks the proxy on the client for 30 s.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewProxyResp {
    #[serde(skip_serializing_if = "is_zero")]
    pub proxy_name: String,
    /// `:23010` for a TCP proxy.
    #[serde(skip_serializing_if = "is_zero")]
    pub remote_addr: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub error: String,
}

/// Client to server; there is no reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CloseProxy {
    #[serde(skip_serializing_if = "is_zero")]
    pub proxy_name: String,
}

/// Client to server, first message of a work connection.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewWorkConn {
    #[serde(skip_serializing_if = "is_zero")]
    pub run_id: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub privilege_key: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub timestamp: i64,
}

/// Server to client on the control connection: open one more work connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReqWorkConn {}

/// Server to client on a work connection: from here on its bytes are a user's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartWorkConn {
    #[serde(skip_serializing_if = "is_zero")]
    pub proxy_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub src_addr: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub dst_addr: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub src_port: u16,
    #[serde(skip_serializing_if = "is_zero")]
    pub dst_port: u16,
    #[serde(skip_serializing_if = "is_zero")]
    pub error: String,
}

/// Client to server heartbeat; clients without a mux send it every 30 s.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ping {
    #[serde(skip_serializing_if = "is_zero")]
    pub privilege_key: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub timestamp: i64,
}

/// Server to client. A non-empty `error` makes the client drop the control connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pong {
    #[serde(skip_serializing_if = "is_zero")]
    pub error: String,
}

/// Go's `omitempty`.
fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Prints the keys and hides the values: `metas` is where clients carry the shared key.
struct Keys<'a>(&'a Metas);

impl fmt::Debug for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("version", &self.version)
            .field("hostname", &self.hostname)
            .field("user", &self.user)
            .field("run_id", &self.run_id)
            .field("client_id", &self.client_id)
            .field("metas", &Keys(&self.metas))
            .field("pool_count", &self.pool_count)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NewProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewProxy")
            .field("proxy_name", &self.proxy_name)
            .field("proxy_type", &self.proxy_type)
            .field("remote_port", &self.remote_port)
            .field("use_encryption", &self.use_encryption)
            .field("use_compression", &self.use_compression)
            .field("metas", &Keys(&self.metas))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NewWorkConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewWorkConn").field("run_id", &self.run_id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Ping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ping").field("timestamp", &self.timestamp).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_fields_are_left_out_and_come_back_as_zero() {
        assert_eq!(serde_json::to_string(&Login::default()).unwrap(), r#"{"client_spec":{}}"#);
        assert_eq!(serde_json::to_string(&Pong::default()).unwrap(), "{}");
        assert_eq!(serde_json::from_str::<Login>("{}").unwrap(), Login::default());
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let text = r#"{"proxy_name":"a","remote_port":23000,"custom_domains":["x"],"new":{"y":1}}"#;
        let proxy: NewProxy = serde_json::from_str(text).unwrap();
        assert_eq!((proxy.proxy_name.as_str(), proxy.remote_port), ("a", 23000));
        serde_json::from_str::<ReqWorkConn>(r#"{"later":true}"#).unwrap();
    }

    #[test]
    fn debug_shows_no_key() {
        let metas = Metas::from([("token".to_owned(), "hunter2".to_owned())]);
        let privilege_key = "hunter2".to_owned();
        let printed = [
            format!(
                "{:?}",
                Login {
                    metas: metas.clone(),
                    privilege_key: privilege_key.clone(),
                    ..Default::default()
                }
            ),
            format!(
                "{:?}",
                NewProxy { metas, group_key: "hunter2".to_owned(), ..Default::default() }
            ),
            format!(
                "{:?}",
                NewWorkConn { privilege_key: privilege_key.clone(), ..Default::default() }
            ),
            format!("{:?}", Ping { privilege_key, timestamp: 1 }),
        ];
        for text in printed {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
