//! What media types and URIs are made of.

use std::net::Ipv6Addr;

/// Source: RFC 9110, section 5.6.2, "token".
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// `type/subtype`, then perhaps parameters, all of it in visible ASCII, spaces and tabs.
pub(super) fn is_media_type(text: &str) -> bool {
    let (essence, _) = text.split_once(';').unwrap_or((text, ""));
    let Some((main, sub)) = essence.split_once('/') else { return false };
    text.trim_ascii() == text
        && is_token(main)
        && is_token(sub.trim_end_matches([' ', '\t']))
        && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t')
}

/// The parameter `charset` of a media type.
pub(super) fn charset(media_type: &str) -> Option<&str> {
    let mut parameters = media_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let found = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    found.map(|(_, value)| value.trim().trim_matches('"'))
}

/// Whether a URI begins with a scheme. Source: RFC 3986, section 3.1.
pub(super) fn has_scheme(uri: &str) -> bool {
    let Some((scheme, _)) = uri.split_once(':') else { return false };
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// The first character that no URI reference has at its place.
pub(super) fn not_of_a_uri(text: &str) -> Option<char> {
    let (brackets, fragment) = (brackets(text), text.find('#'));
    text.char_indices().find_map(|(at, character)| {
        let stands = match character {
            '%' => {
                let digits = text.as_bytes().get(at + 1..at + 3);
                digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            }
            '[' | ']' => brackets.is_some_and(|brackets| brackets.contains(&at)),
            '#' => fragment == Some(at),
            ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => false,
            other => !other.is_control(),
        };
        (!stands).then_some(character)
    })
}

/// Where the brackets around the address of a host are, the only ones that a URI has. Source: RFC 3986, section 3.2.2.
fn brackets(text: &str) -> Option<[usize; 2]> {
    let (before, after) = text.split_once("//")?;
    if !before.is_empty() && (!has_scheme(before) || before.find(':') != Some(before.len() - 1)) {
        return None;
    }
    let authority = after.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let (address, port) = host.strip_prefix('[')?.split_once(']')?;
    let later_version = |text: &str| {
        let (version, address) = text.strip_prefix(['v', 'V'])?.split_once('.')?;
        let is_version = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_version && !address.is_empty()).then_some(())
    };
    let is_address = address.parse::<Ipv6Addr>().is_ok() || later_version(address).is_some();
    let is_port = port.is_empty() || port.strip_prefix(':')?.bytes().all(|byte| byte.is_ascii_digit());
    let open = before.len() + "//".len() + authority.len() - host.len();
    (is_address && is_port).then_some([open, open + "[".len() + address.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_have_a_type_and_a_subtype() {
        for text in ["a/b", "application/cloudevents+json; charset=utf-8", "a/b ;c", "x/*"] {
            assert!(is_media_type(text), "{text}");
        }
        for text in ["", "a", "a/", "/b", "a/b/c", "a b/c", "a/b ", "a/b;c=é", "a/b;\n", "ä/b"] {
            assert!(!is_media_type(text), "{text}");
        }
    }

    #[test]
    fn uris_have_no_blanks_and_whole_escapes() {
        for text in ["", "a", "/a/b?c=d#e", "urn:x", "é", "%41", "a:#", "(a)'*!"] {
            assert_eq!(not_of_a_uri(text), None, "{text}");
        }
        for (text, character) in
            [("a b", ' '), ("%", '%'), ("%4", '%'), ("%4g", '%'), ("<a>", '<'), ("a\u{7f}", '\u{7f}')]
        {
            assert_eq!(not_of_a_uri(text), Some(character), "{text}");
        }
    }

    #[test]
    fn uris_have_brackets_around_addresses_only_and_one_fragment() {
        for text in ["//[::1]", "http://u:p@[2001:db8::1.2.3.4]:80/a?b#c", "//[v1.a:b]", "http://[::]:", "//[::1]?a"] {
            assert_eq!(not_of_a_uri(text), None, "{text}");
        }
        for text in ["[::1]", "a[0]", "a:[::1]", "/a//[::1]", "a:b://[::1]", "//[::1", "//[::g]", "//[v.a]", "//[::1]a"]
        {
            assert_eq!(not_of_a_uri(text), Some('['), "{text}");
        }
        for (text, character) in [("a]", ']'), ("//[::1]]", '['), ("//[::1]/]", ']'), ("a#b#", '#'), ("##", '#')] {
            assert_eq!(not_of_a_uri(text), Some(character), "{text}");
        }
    }
}
