//! Builds HTML and SVG.
//!
//! Only literals of this program and numbers are added unescaped, so no text from a file can become
//! markup.

use std::fmt::Write;

/// A page or a part of one.
#[derive(Debug, Default)]
pub(super) struct Markup(String);

impl Markup {
    /// Adds markup.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds escaped text, as content or as the value of an attribute in double quotes.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c if c.is_control() || is_bidi_control(c) => self.0.extend(c.escape_unicode()),
                c => self.0.push(c),
            }
        }
        self
    }

    /// Adds a number with two decimals, without trailing zeros.
    pub(super) fn number(&mut self, number: f64) -> &mut Self {
        let start = self.0.len();
        let _ = write!(self.0, "{number:.2}");
        let text = self.0[start..].trim_end_matches('0').trim_end_matches('.');
        let end = start + text.len();
        self.0.truncate(end);
        self
    }

    /// Adds an element that contains only text.
    pub(super) fn element(
        &mut self,
        open: &'static str,
        text: &str,
        close: &'static str,
    ) -> &mut Self {
        self.raw(open).text(text).raw(close)
    }

    pub(super) fn end(self) -> String {
        self.0
    }
}

/// Returns whether a character changes the direction of writing, which makes a name look like another.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_becomes_markup() {
        let mut page = Markup::default();
        page.text("</title><script>alert('\"&amp;\"')</script>\u{202e}\0\n\\");
        let text = page.end();
        assert_eq!(
            text,
            "&lt;/title&gt;&lt;script&gt;alert(&#39;&quot;&amp;amp;&quot;&#39;)&lt;/script&gt;\
             \\u{202e}\\u{0}\\u{a}\\"
        );
    }

    #[test]
    fn numbers_have_their_shortest_form() {
        let mut page = Markup::default();
        for number in [0.0, 10.0, 2.5, 0.333, -1.0] {
            page.number(number).raw(" ");
        }
        assert_eq!(page.end(), "0 10 2.5 0.33 -1 ");
    }
}
