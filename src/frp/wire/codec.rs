//! Bytes in, messages out, and back: framing and control cipher of one connection in one place.
//!
//! Sans-io. Each direction starts in clear. The server reads ciphertext from right after Login and
//! writes it from right after LoginResp; the client mirrors that. A work connection stays in clear,
//! and after StartWorkConn what was pushed beyond it belongs to the user: [`Codec::into_rest`].

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::frp::crypto::cfb::{Decryptor, Encryptor, IV_LEN, Iv, Key};
use crate::frp::message::Message;
use crate::frp::wire::v1::{self, V1Error};

/// Why a connection can no longer be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    #[error(transparent)]
    V1(#[from] V1Error),
}

/// Framing and cipher state of one connection. Holds at most what was pushed and not yet taken.
#[derive(Debug, Default)]
pub struct Codec {
    /// Received, deciphered, not yet taken.
    inbox: BytesMut,
    reading: Reading,
    writing: Option<Encryptor>,
    /// Goes out in clear before the first ciphertext.
    iv: Option<Iv>,
}

#[derive(Debug, Default)]
enum Reading {
    #[default]
    Clear,
    /// The peer's initialisation vector is still arriving.
    Iv(Key, Vec<u8>),
    Cipher(Box<Decryptor>),
}

impl Codec {
    /// A codec with both directions in clear.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they came off the connection, in any portions.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if let Reading::Iv(key, iv) = &mut self.reading {
            let (front, rest) = bytes.split_at(bytes.len().min(IV_LEN - iv.len()));
            iv.extend_from_slice(front);
            bytes = rest;
            if let Ok(iv) = Iv::try_from(iv.as_slice()) {
                self.reading = Reading::Cipher(Box::new(Decryptor::new(key, &iv)));
            }
        }
        let start = self.inbox.len();
        self.inbox.extend_from_slice(bytes);
        if let Reading::Cipher(decryptor) = &mut self.reading {
            decryptor.apply(&mut self.inbox[start..]);
        }
    }

    /// The next whole message, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`WireError`]; the connection cannot be resynchronised and must be closed.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would hide that None is not the end"
    )]
    pub fn next(&mut self) -> Result<Option<Message>, WireError> {
        Ok(v1::decode(&mut self.inbox)?)
    }

    /// Appends the message as it goes on the wire, the initialisation vector first if this is the
    /// first ciphertext.
    pub fn encode(&mut self, message: &Message, out: &mut BytesMut) {
        if let Some(iv) = self.iv.take() {
            out.extend_from_slice(&iv);
        }
        let start = out.len();
        v1::encode(message, out);
        if let Some(encryptor) = &mut self.writing {
            encryptor.apply(&mut out[start..]);
        }
    }

    /// Everything after the messages taken so far is ciphertext, bytes already pushed included.
    pub fn start_reading_cipher(&mut self, key: &Key) {
        self.reading = Reading::Iv(key.clone(), Vec::with_capacity(IV_LEN));
        let early = self.inbox.split();
        self.push(&early);
    }

    /// Every message encoded from here on is ciphertext. `iv` must be fresh and random.
    pub fn start_writing_cipher(&mut self, key: &Key, iv: Iv) {
        self.writing = Some(Encryptor::new(key, &iv));
        self.iv = Some(iv);
    }

    /// The bytes pushed beyond the last message taken: on a work connection, the user's.
    pub fn into_rest(self) -> Bytes {
        self.inbox.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frp::message::{
        CloseProxy, Login, LoginResp, NewProxy, NewProxyResp, Pong, ReqWorkConn, StartWorkConn,
    };

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
            .collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn first_answers() -> [Message; 3] {
        [
            Message::ReqWorkConn(ReqWorkConn {}),
            Message::Pong(Pong::default()),
            Message::NewProxyResp(NewProxyResp {
                proxy_name: "testapp".into(),
                remote_addr: ":23010".into(),
                error: String::new(),
            }),
        ]
    }

    /// The three messages above as one ciphertext stream, initialisation vector 00 to 0f.
    const STREAMS: [(&str, [&str; 3]); 2] = [
        (
            "",
            [
                "000102030405060708090a0b0c0d0e0f 8b30610abcb682c5556510",
                "0804400c67e6314b54130f",
                "69ee39255182717a8e20bd756266724ff753b670d9b066aa25133bef5eac08dba941fb89f0d7d96b49\
                 7c7d7b31009996d933a45dfb2b0094",
            ],
        ),
        (
            "s3cret",
            [
                "000102030405060708090a0b0c0d0e0f e97848b3103aeeb1a4aaff",
                "72b482973d4969badf3bba",
                "b30fef4ec58806f89d7c66a1fa71dcc9c6d282a7c730dcdd119fb9d104fb0e1675e453fde5e07eb9e3\
                 c13cef357dde695f120d5425f3b625",
            ],
        ),
    ];

    #[test]
    fn the_control_stream_equals_the_reference_bytes() {
        for (token, wires) in STREAMS {
            let key = Key::derive(token.as_bytes());
            let mut iv = Iv::default();
            (0u8..).zip(&mut iv).for_each(|(n, byte)| *byte = n);
            let mut codec = Codec::new();
            codec.start_writing_cipher(&key, iv);
            for (message, wire) in first_answers().iter().zip(wires) {
                let mut out = BytesMut::new();
                codec.encode(message, &mut out);
                assert_eq!(out, unhex(wire), "{token:?} {message:?}");
            }
        }
    }

    #[test]
    fn a_captured_server_stream_reads_back() {
        let mut codec = Codec::new();
        codec.start_reading_cipher(&Key::derive(b""));
        codec.push(&unhex("592179adc339bf8475593216267626f2 8612bfa27e9d730928cc42"));
        assert_eq!(codec.next(), Ok(Some(Message::ReqWorkConn(ReqWorkConn {}))));
        assert_eq!(codec.next(), Ok(None));
    }

    #[test]
    fn ciphertext_pushed_together_with_the_login_is_not_lost() {
        let key = Key::derive(b"");
        let mut client = Codec::new();
        let mut wire = BytesMut::new();
        client.encode(&Message::Login(Login::default()), &mut wire);
        client.start_writing_cipher(&key, [9; IV_LEN]);
        let proxy = Message::NewProxy(NewProxy { proxy_name: "a".into(), ..Default::default() });
        client.encode(&proxy, &mut wire);

        let mut server = Codec::new();
        server.push(&wire);
        assert_eq!(server.next(), Ok(Some(Message::Login(Login::default()))));
        server.start_reading_cipher(&key);
        assert_eq!(server.next(), Ok(Some(proxy)));
    }

    #[test]
    fn bytes_after_start_work_conn_belong_to_the_user() {
        let start = Message::StartWorkConn(StartWorkConn::default());
        let mut wire = BytesMut::new();
        Codec::new().encode(&start, &mut wire);
        wire.extend_from_slice(b"GET / HTTP/1.1");
        let mut codec = Codec::new();
        codec.push(&wire);
        assert_eq!(codec.next(), Ok(Some(start)));
        assert_eq!(codec.into_rest(), "GET / HTTP/1.1");
    }

    #[test]
    fn a_wrong_token_is_named_and_stays_an_error() {
        let mut codec = Codec::new();
        codec.start_reading_cipher(&Key::derive(b"other"));
        codec.push(&unhex("592179adc339bf8475593216267626f2 8612bfa27e9d730928cc42"));
        let error = codec.next().unwrap_err();
        assert!(error.to_string().contains("auth.token"), "{error}");
        codec.push(b"more");
        assert_eq!(codec.next(), Err(error));
    }

    fn any_message() -> impl Strategy<Value = Message> {
        prop_oneof![
            (any::<String>(), any::<i64>(), any::<String>()).prop_map(|(name, port, meta)| {
                Message::NewProxy(NewProxy {
                    metas: [(name.clone(), meta)].into(),
                    proxy_name: name,
                    remote_port: port,
                    ..Default::default()
                })
            }),
            any::<String>().prop_map(|proxy_name| Message::CloseProxy(CloseProxy { proxy_name })),
            any::<String>()
                .prop_map(|error| Message::LoginResp(LoginResp { error, ..Default::default() })),
            Just(Message::ReqWorkConn(ReqWorkConn {})),
            Just(Message::Other(b'u')),
        ]
    }

    proptest! {
        #[test]
        fn messages_survive_any_cutting(
            clear in proptest::collection::vec(any_message(), 0..4),
            secret in proptest::collection::vec(any_message(), 0..6),
            cuts in proptest::collection::vec(1usize..60, 1..8),
        ) {
            let key = Key::derive(b"s3cret");
            let (mut near, mut far) = (Codec::new(), Codec::new());
            let mut wire = BytesMut::new();
            clear.iter().for_each(|message| near.encode(message, &mut wire));
            near.start_writing_cipher(&key, [3; IV_LEN]);
            secret.iter().for_each(|message| near.encode(message, &mut wire));

            let mut read = Vec::new();
            if clear.is_empty() {
                far.start_reading_cipher(&key);
            }
            let mut cuts = cuts.iter().cycle();
            while !wire.is_empty() {
                let cut = wire.len().min(*cuts.next().unwrap());
                far.push(&wire.split_to(cut));
                while let Some(message) = far.next().unwrap() {
                    read.push(message);
                    if read.len() == clear.len() {
                        far.start_reading_cipher(&key);
                    }
                }
            }
            prop_assert_eq!(read, [clear, secret].concat());
        }

        #[test]
        fn any_ciphertext_is_survived(bytes: Vec<u8>) {
            let mut codec = Codec::new();
            codec.start_reading_cipher(&Key::derive(b""));
            codec.push(&bytes);
            while let Ok(Some(_)) = codec.next() {}
        }
    }
}
