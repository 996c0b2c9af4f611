//! What a row is: a request as bytes, and everything that must have happened afterwards.
//!
//! In all texts of a row `{n}` stands for the row's own number, so that no two rows share an
//! ExApp, a visitor or an address, and neither ban nor warm each other's caches. `{client}` is
//! the row's address, `{decoy}` another one, `{network}` an IPv6 network of 64 bits, `{key}` the
//! shared key, `{host}` and `{port}` where the ExApp is recorded, `{basic:NAME}` the base64 of a
//! name and the ExApp's secret, `{basic:NAME:PASSWORD}` of the two.

use super::stage::Stage;

/// One line of the table, or a short story of several requests in order.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) steps: Vec<Step>,
    /// Failures all steps together cost the row's address; `None`: not measured.
    pub(crate) strikes: Option<usize>,
    /// The same for HaRP where it counts otherwise.
    pub(crate) harp_strikes: Option<Option<usize>>,
    /// Why HaRP is known to answer otherwise.
    pub(crate) harp_differs: Option<&'static str>,
    /// Why the row is kept from HaRP altogether.
    pub(crate) harp_skipped: Option<&'static str>,
}

pub(crate) enum Step {
    Request {
        send: Send,
        expect: Box<Expect>,
        harp: Option<Box<Expect>>,
    },
    /// Nextcloud knows something else from here on; told the row's number.
    Change(fn(&Stage, &str)),
}

#[derive(Clone)]
pub(crate) enum Send {
    Parts { method: String, path: String, headers: Vec<(String, String)>, body: Vec<u8> },
    Raw(Vec<u8>),
}

/// What the client, the ExApp and Nextcloud have seen. What is not said is: the ExApp was not
/// reached.
#[derive(Clone, Default)]
pub(crate) struct Expect {
    /// The status, or `None` for no answer at all.
    pub(crate) status: Option<u16>,
    /// Another status that is as good.
    pub(crate) or: Option<u16>,
    pub(crate) body: Option<Text>,
    pub(crate) has: Vec<(&'static str, String)>,
    pub(crate) lacks: Vec<&'static str>,
    pub(crate) reached: Option<Reached>,
    /// Calls of `exapp-meta` and of `user-info`.
    pub(crate) asked: Option<(usize, usize)>,
    /// Headers every `user-info` call carried, and those it did not.
    pub(crate) asked_with: Vec<(&'static str, String)>,
    pub(crate) asked_without: Vec<&'static str>,
}

#[derive(Clone)]
pub(crate) enum Text {
    Is(String),
    Contains(String),
}

/// What the ExApp saw; of a header, all lines joined by `|`.
#[derive(Clone, Default)]
pub(crate) struct Reached {
    pub(crate) target: String,
    pub(crate) method: Option<&'static str>,
    pub(crate) has: Vec<(&'static str, String)>,
    pub(crate) lacks: Vec<&'static str>,
}

pub(crate) fn get(path: &str) -> Send {
    send("GET", path)
}

pub(crate) fn send(method: &str, path: &str) -> Send {
    Send::Parts { method: method.into(), path: path.into(), headers: Vec::new(), body: Vec::new() }
}

/// Bytes as they are, with the placeholders.
pub(crate) fn raw(bytes: impl AsRef<[u8]>) -> Send {
    Send::Raw(bytes.as_ref().to_vec())
}

impl Send {
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        if let Self::Parts { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }

    pub(crate) fn all(self, headers: &[(&str, &str)]) -> Self {
        headers.iter().fold(self, |send, (name, value)| send.with(name, value))
    }

    pub(crate) fn body(mut self, bytes: impl AsRef<[u8]>) -> Self {
        if let Self::Parts { body, .. } = &mut self {
            *body = bytes.as_ref().to_vec();
        }
        self
    }

    /// With the right key.
    pub(crate) fn key(self) -> Self {
        self.with("harp-shared-key", "{key}")
    }

    /// As the user alice, or any other session `who`.
    pub(crate) fn session(self, who: &str) -> Self {
        let cookie = format!(
            "nc_session_id=id-{who}-{{n}}; oc_sessionPassphrase=passphrase-of-{who}-{{n}}; \
             nc_sameSiteCookielax=true"
        );
        self.with("cookie", &cookie)
    }

    /// As AppAPI signs its requests.
    pub(crate) fn signed(self) -> Self {
        self.all(&SIGNED)
    }

    /// The same with one header replaced, or left out.
    pub(crate) fn signed_but(self, name: &str, value: Option<&str>) -> Self {
        let others = SIGNED.into_iter().filter(|(own, _)| *own != name);
        let send = others.fold(self, |send, (name, value)| send.with(name, value));
        value.into_iter().fold(send, |send, value| send.with(name, value))
    }

    pub(crate) fn is_head(&self) -> bool {
        match self {
            Self::Parts { method, .. } => method == "HEAD",
            Self::Raw(bytes) => bytes.starts_with(b"HEAD "),
        }
    }

    /// The request on the wire. A host, the row's address and the length of a body are added
    /// where the row does not say them.
    pub(crate) fn bytes(&self, fill: &dyn Fn(&str) -> String) -> Vec<u8> {
        let (method, path, headers, body) = match self {
            Self::Raw(bytes) => return fill_bytes(bytes, fill),
            Self::Parts { method, path, headers, body } => (method, path, headers, body),
        };
        let body = fill_bytes(body, fill);
        let length = body.len().to_string();
        let named = |name: &str| headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        let mut bytes = fill(&format!("{method} {path} HTTP/1.1\r\n")).into_bytes();
        let mut line = |name: &str, value: &str| {
            bytes.extend(format!("{name}: {}\r\n", fill(value)).into_bytes());
        };
        for (name, value) in [("Host", "cloud.example"), ("X-Forwarded-For", "{client}")] {
            if !named(name) {
                line(name, value);
            }
        }
        let says_length = named("content-length") || named("transfer-encoding");
        if !says_length && (!body.is_empty() || matches!(method.as_str(), "POST" | "PUT")) {
            line("Content-Length", &length);
        }
        for (name, value) in headers {
            line(name, value);
        }
        bytes.extend(b"\r\n");
        bytes.extend(body);
        bytes
    }
}

const SIGNED: [(&str, &str); 6] = [
    ("ex-app-version", "1.2.3"),
    ("ex-app-id", "demo{n}"),
    ("ex-app-host", "{host}"),
    ("ex-app-port", "{port}"),
    ("authorization-app-api", "c2lnbmF0dXJlLW9mLWFwcGFwaQ=="),
    ("harp-shared-key", "{key}"),
];

/// Fills text parts and leaves bytes that are none alone.
fn fill_bytes(bytes: &[u8], fill: &dyn Fn(&str) -> String) -> Vec<u8> {
    let filled = bytes
        .utf8_chunks()
        .map(|chunk| [fill(chunk.valid()).into_bytes(), chunk.invalid().to_vec()].concat());
    filled.collect::<Vec<_>>().concat()
}

pub(crate) fn status(status: u16) -> Expect {
    Expect { status: Some(status), ..Expect::default() }
}

/// 401, 403 and 404 in HaRP's form.
pub(crate) fn refused(code: u16) -> Expect {
    let text = match code {
        401 => "401 Unauthorized",
        403 => "403 Forbidden",
        _ => "404 Not Found",
    };
    status(code)
        .body(text)
        .has("content-type", "text/plain")
        .lacks("date")
        .lacks("www-authenticate")
}

/// No answer.
pub(crate) fn dropped() -> Expect {
    Expect::default()
}

/// 200 from the ExApp, which saw this target.
pub(crate) fn reached(target: &str) -> Expect {
    let seen = Reached { target: target.into(), ..Reached::default() };
    Expect { status: Some(200), reached: Some(seen), ..Expect::default() }
}

impl Expect {
    pub(crate) fn body(mut self, text: &str) -> Self {
        self.body = Some(Text::Is(text.into()));
        self
    }

    pub(crate) fn says(mut self, text: &str) -> Self {
        self.body = Some(Text::Contains(text.into()));
        self
    }

    pub(crate) fn has(mut self, name: &'static str, value: &str) -> Self {
        self.has.push((name, value.into()));
        self
    }

    pub(crate) fn lacks(mut self, name: &'static str) -> Self {
        self.lacks.push(name);
        self
    }

    /// How often Nextcloud was asked for the ExApp and for the visitor.
    pub(crate) fn asked(mut self, exapp_meta: usize, user_info: usize) -> Self {
        self.asked = Some((exapp_meta, user_info));
        self
    }

    pub(crate) fn asked_with(mut self, name: &'static str, value: &str) -> Self {
        self.asked_with.push((name, value.into()));
        self
    }

    pub(crate) fn asked_without(mut self, names: &[&'static str]) -> Self {
        self.asked_without.extend(names);
        self
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub(crate) fn or(mut self, status: u16) -> Self {
        self.or = Some(status);
        self
    }

    /// The ExApp saw this header.
    pub(crate) fn saw(mut self, name: &'static str, value: &str) -> Self {
        self.reached.get_or_insert_default().has.push((name, value.into()));
        self
    }

    pub(crate) fn saw_method(mut self, method: &'static str) -> Self {
        self.reached.get_or_insert_default().method = Some(method);
        self
    }

    /// The ExApp saw none of these headers.
    pub(crate) fn saw_no(mut self, names: &[&'static str]) -> Self {
        self.reached.get_or_insert_default().lacks.extend(names);
        self
    }

    /// The ExApp saw this user, base64 of `user:token`.
    pub(crate) fn by(self, user: &str) -> Self {
        self.saw("authorization-app-api", &format!("{{basic:{user}}}"))
    }
}

/// One request.
pub(crate) fn row(name: &'static str, send: Send, expect: Expect) -> Row {
    story(name).then(send, expect)
}

/// Several requests, each seen by the same address.
pub(crate) fn story(name: &'static str) -> Row {
    Row {
        name,
        steps: Vec::new(),
        strikes: Some(0),
        harp_strikes: None,
        harp_differs: None,
        harp_skipped: None,
    }
}

impl Row {
    pub(crate) fn then(mut self, send: Send, expect: Expect) -> Self {
        self.steps.push(Step::Request { send, expect: Box::new(expect), harp: None });
        self
    }

    pub(crate) fn change(mut self, change: fn(&Stage, &str)) -> Self {
        self.steps.push(Step::Change(change));
        self
    }

    /// Costs the client this many failures.
    pub(crate) fn strikes(mut self, strikes: usize) -> Self {
        self.strikes = Some(strikes);
        self
    }

    /// Where the address cannot be told, or is banned in the end.
    pub(crate) fn strikes_unmeasured(mut self) -> Self {
        self.strikes = None;
        self
    }

    /// What HaRP answers to the step before this.
    pub(crate) fn harp(mut self, why: &'static str, expect: Expect) -> Self {
        self.harp_differs = Some(why);
        if let Some(Step::Request { harp, .. }) = self.steps.last_mut() {
            *harp = Some(Box::new(expect));
        }
        self
    }

    /// The failures HaRP counts.
    pub(crate) fn harp_strikes(mut self, why: &'static str, strikes: Option<usize>) -> Self {
        self.harp_differs = Some(why);
        self.harp_strikes = Some(strikes);
        self
    }

    /// Not sent to HaRP, because it would harm the rows beside it.
    pub(crate) fn not_for_harp(mut self, why: &'static str) -> Self {
        self.harp_skipped = Some(why);
        self
    }
}
