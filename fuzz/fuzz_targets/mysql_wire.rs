//! What a database node says: no bytes break the monitor, and an answer stays small.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trigon::balance::galera::Reading;
use trigon::database::wire::{Answer, Greeting, LoginReply, MAX_PAYLOAD, head};
use trigon::secret::Secret;

fuzz_target!(|data: &[u8]| {
    let password = Secret::new("password");
    let mut answer = Answer::default();
    let mut rest = data;
    while let Some((start, behind)) = rest.split_first_chunk::<4>() {
        let Ok((length, _)) = head(*start) else { return };
        assert!(length <= MAX_PAYLOAD);
        let (payload, next) = behind.split_at(length.min(behind.len()));
        rest = next;
        if let Ok(greeting) = Greeting::parse(payload) {
            assert!(greeting.login("trigon", &password).len() < 200);
        }
        if let Err(error) = LoginReply::parse(payload, &password) {
            assert!(!error.to_string().contains('\n'));
        }
        match answer.feed(payload) {
            Ok(None) => {}
            Ok(Some(rows)) => {
                let pairs = rows.into_iter().filter_map(|row| <[String; 2]>::try_from(row).ok());
                let pairs: Vec<_> = pairs.map(|[name, value]| (name, value)).collect();
                let _ = Reading::from_rows(&pairs);
                answer = Answer::default();
            }
            Err(_) => answer = Answer::default(),
        }
    }
});
