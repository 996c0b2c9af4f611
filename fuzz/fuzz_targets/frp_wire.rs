//! frp's wire version 1 from any peer, however its bytes are cut: the same messages come out, an
//! error stays, and what was read is written so that it reads the same. The cipher is invisible.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use trigon::frp::crypto::cfb::Key;
use trigon::frp::message::Message;
use trigon::frp::preface::Preface;
use trigon::frp::wire::v1::{self, MAX_BODY, V1Error};
use trigon::frp::wire::{Codec, WireError};

/// Per byte of input, on top of a constant: JSON maps of tiny strings are the worst.
const HEAP_PER_BYTE: usize = 512;

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    trigon_fuzz::within(64 * 1024 + HEAP_PER_BYTE * bytes.len(), || {
        let (messages, end) = whole(bytes);
        assert_eq!(pieces(bytes, usize::from(cut) + 1), (messages.clone(), end.clone()));
        if let (Some(first), Some(Err(V1Error::UnknownType(_))), []) =
            (bytes.first(), &end, &messages[..])
        {
            assert_ne!(Preface::of(*first), Preface::V1, "a preface promises a known message");
        }
        for message in &messages {
            assert!(!message.name().is_empty());
            written_reads_the_same(message);
        }
        ciphered(&messages, usize::from(cut) + 1);
    });
});

type Decoded = (Vec<Message>, Option<Result<(), V1Error>>);

fn whole(bytes: &[u8]) -> Decoded {
    let mut wire = BytesMut::from(bytes);
    let mut messages = Vec::new();
    loop {
        let before = wire.clone();
        match v1::decode(&mut wire) {
            Ok(Some(message)) => {
                assert!(before.len() - wire.len() <= 9 + MAX_BODY);
                messages.push(message);
            }
            Ok(None) => {
                assert!(wire.len() < 9 + MAX_BODY, "what waits for more is bounded");
                return (messages, None);
            }
            Err(error) => {
                assert_eq!(wire, before, "nothing is taken on error");
                assert_eq!(v1::decode(&mut wire), Err(error.clone()), "an error stays");
                return (messages, Some(Err(error)));
            }
        }
    }
}

fn pieces(bytes: &[u8], size: usize) -> Decoded {
    let mut codec = Codec::new();
    let mut messages = Vec::new();
    for piece in bytes.chunks(size) {
        codec.push(piece);
        loop {
            match codec.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(WireError::V1(error)) => return (messages, Some(Err(error))),
            }
        }
    }
    (messages, None)
}

fn written_reads_the_same(message: &Message) {
    let mut wire = BytesMut::new();
    v1::encode(message, &mut wire);
    // Writing adds `client_spec` to a login that came without it.
    if wire.len() <= 9 + MAX_BODY {
        assert_eq!(v1::decode(&mut wire).as_ref(), Ok(&Some(message.clone())));
        assert!(wire.is_empty());
    }
}

fn ciphered(messages: &[Message], size: usize) {
    let key = Key::derive(b"token");
    let mut near = Codec::new();
    near.start_writing_cipher(&key, [7; 16]);
    let mut wire = BytesMut::new();
    for message in messages {
        near.encode(message, &mut wire);
    }
    let mut clear = BytesMut::new();
    for message in messages {
        v1::encode(message, &mut clear);
    }
    let mut far = Codec::new();
    far.start_reading_cipher(&key);
    for piece in wire.chunks(size) {
        far.push(piece);
    }
    assert_eq!(far.into_rest(), clear);
}
