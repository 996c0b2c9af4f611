//! An environment file as `docker run --env-file` reads it: `NAME=VALUE` lines, taken as they
//! are, without quotes or escapes. Sans-io.

/// The variables of the file in its order. Empty lines, comments (`#` at the start) and names
/// without a value are left out; what remains of spaces before a name is not part of it.
pub fn variables(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().filter_map(|line| {
        let line = line.trim_start();
        let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
        Some((name.to_owned(), value.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_as_they_are() {
        let text = "\u{feff}# HaRP\r\nHP_SHARED_KEY=a=b #c\n\n  NC_INSTANCE_URL=\"https://x\"\r\n\
                    HP_LOG_LEVEL\nHP_FRP_ADDRESS=\n";
        let read: Vec<_> = variables(text).collect();
        let read: Vec<_> = read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let expect = [
            ("HP_SHARED_KEY", "a=b #c"),
            ("NC_INSTANCE_URL", "\"https://x\""),
            ("HP_FRP_ADDRESS", ""),
        ];
        assert_eq!(read, expect);
    }
}
