//! A name in which `*` stands for any text and `?` for one character. Knows nothing of fields.

use super::words::Char;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Char(char),
    One,
    Any,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob(Vec<Piece>);

impl Glob {
    pub fn new(text: &[Char]) -> Glob {
        let piece = |one: &Char| match (one.c, one.literal) {
            ('*', false) => Piece::Any,
            ('?', false) => Piece::One,
            (c, _) => Piece::Char(c),
        };
        Glob(text.iter().map(piece).collect())
    }

    /// The one text that fits, if there is but one.
    pub fn exact(&self) -> Option<String> {
        let plain = |piece: &Piece| if let Piece::Char(c) = piece { Some(*c) } else { None };
        self.0.iter().map(plain).collect()
    }

    pub fn matches(&self, text: &str) -> bool {
        // Where to go on from if what follows the last `*` did not fit.
        let mut star: Option<(usize, &str)> = None;
        let (mut p, mut rest) = (0, text);
        loop {
            let mut after = rest.chars();
            match (self.0.get(p), after.next()) {
                (Some(Piece::Any), _) => {
                    star = Some((p + 1, rest));
                    p += 1;
                    continue;
                }
                (None, None) => return true,
                (Some(Piece::One), Some(_)) => {
                    (p, rest) = (p + 1, after.as_str());
                    continue;
                }
                (Some(Piece::Char(wanted)), Some(c)) if *wanted == c => {
                    (p, rest) = (p + 1, after.as_str());
                    continue;
                }
                _ => {}
            }
            let Some((from, skipped)) = star else { return false };
            let mut longer = skipped.chars();
            if longer.next().is_none() {
                return false;
            }
            star = Some((from, longer.as_str()));
            (p, rest) = (from, longer.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let glob = |text: &str| Glob::new(&text.chars().map(|c| Char { c, literal: false }).collect::<Vec<_>>());
        let yes = [
            ("mail*", "mail"),
            ("mail*", "mail.send"),
            ("*", "x"),
            ("*", ""),
            ("a*b*c", "a1b2b3c"),
            ("m?il", "mail"),
            ("*.x", "a.x.x"),
            ("?é*", "aé"),
        ];
        let no = [("mail*", "email"), ("a*b", "abc"), ("m?il", "mil"), ("", "x"), ("?", ""), ("*é", "e")];
        for (pattern, text) in yes {
            assert!(glob(pattern).matches(text), "{pattern} {text}");
        }
        for (pattern, text) in no {
            assert!(!glob(pattern).matches(text), "{pattern} {text}");
        }
        assert_eq!(glob("mail").exact(), Some("mail".into()));
        assert_eq!(glob("m*").exact(), None);
        assert!(Glob::new(&[Char { c: '*', literal: true }]).matches("*"));
    }
}
