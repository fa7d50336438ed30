//! Injection against a browser's parser: without the script, the tree is that of the page.

#![allow(clippy::format_push_string)] // a tree is written for a comparison

use html5ever::tendril::TendrilSink as _;
use html5ever::tree_builder::TreeBuilderOpts;
use html5ever::{ParseOpts, parse_document};
use markup5ever_rcdom::{Handle, NodeData, RcDom};
use proptest::prelude::*;

use super::*;

/// The tree of a page as text, without the live script; and how often the script occurred.
fn tree(page: &[u8]) -> (String, u32) {
    let opts = ParseOpts {
        tree_builder: TreeBuilderOpts {
            scripting_enabled: true,
            ..TreeBuilderOpts::default()
        },
        ..ParseOpts::default()
    };
    let dom = parse_document(RcDom::default(), opts).from_utf8().one(page);
    let mut out = format!("{:?}", dom.quirks_mode.get());
    let mut scripts = 0;
    write(&dom.document, &mut out, &mut scripts);
    (out, scripts)
}

fn write(node: &Handle, out: &mut String, scripts: &mut u32) {
    out.push('(');
    match &node.data {
        NodeData::Document => {}
        NodeData::Doctype {
            name,
            public_id,
            system_id,
        } => out.push_str(&format!("!{name} {public_id} {system_id}")),
        NodeData::Text { contents } => out.push_str(&format!("{:?}", contents.borrow())),
        NodeData::Comment { contents } => out.push_str(&format!("<!--{contents:?}-->")),
        NodeData::ProcessingInstruction { target, contents } => {
            out.push_str(&format!("<?{target} {contents}>"));
        }
        NodeData::Element {
            name,
            attrs,
            template_contents,
            ..
        } => {
            out.push_str(&format!("<{:?} {}", name.ns, name.local));
            for attr in attrs.borrow().iter() {
                out.push_str(&format!(" {}={:?}", attr.name.local, attr.value));
            }
            if let Some(contents) = &*template_contents.borrow() {
                write(contents, out, scripts);
            }
        }
    }
    for child in node.children.borrow().iter() {
        if is_live_script(child) {
            *scripts += 1;
        } else {
            write(child, out, scripts);
        }
    }
    out.push(')');
}

fn is_live_script(node: &Handle) -> bool {
    let NodeData::Element { name, attrs, .. } = &node.data else {
        return false;
    };
    let attrs = attrs.borrow();
    let src = attrs.iter().find(|attr| &*attr.name.local == "src");
    &*name.local == "script" && src.is_some_and(|src| &*src.value == SCRIPT_PATH)
}

/// Tokens before the content of a head, in any order.
const BEFORE: &[&str] = &[
    " ",
    "\n\t",
    "\u{c}",
    "<!doctype html>",
    "<!DOCTYPE html SYSTEM \"about:legacy-compat\">",
    "<!doctype html public '-//W3C//DTD HTML 3.2//EN' \"x>\">",
    "<!-- <head> </body> -->",
    "<!-->",
    "<!--->",
    "<!--a--!>",
    "<!----!>",
    "<!--a<!--b-->",
    "<!x <html>",
    "<!>",
    "<?xml version='1.0'?>",
    "</>",
    "</ head>",
    "</p>",
    "</script a='>'>",
    "<![CDATA[<head>]]>",
    "<html>",
    "<html lang=\"<head>\">",
    "<HTML a='>' b=\">\" c=d/e f = g =h=i>",
    "<html/>",
    "<html / a=\n'x'>",
];

/// Content of a page, with text that looks like markup.
const CONTENT: &[&str] = &[
    "<head>",
    "<HEAD data-a='</head>'\n>",
    "<head/>",
    "</head>",
    "<body class='<head>'>",
    "</body>",
    "</html>",
    "<title></body><head></title>",
    "<base href='https://other.example/x/'>",
    "<meta charset=utf-8>",
    "<script>var a = '</body>';</script>",
    "<script><!-- <script></body></script> --></script>",
    "<style>a::after { content: '</body>' }</style>",
    "<textarea></body><head></textarea>",
    "<xmp><head></xmp>",
    "<iframe><head></iframe>",
    "<noscript><p></noscript>",
    "<frameset><frame src=a></frameset>",
    "<template><head><td></template>",
    "<svg><title><p></svg>",
    "<math><mi>x</math>",
    "<table>x<tr><td>y</table>",
    "<select><option>a</select>",
    "<p>a<b>c",
    "text",
    "&amp; &lt",
    "</br>",
    "<a href='x>y'>z</a>",
    "\u{0}",
    "<!-- x -->",
    " ",
    "<img src=a>",
    "<header>",
    "<headers>",
    "<html-a>",
    "<",
    "< head>",
    "\u{e9}",
];

/// Ends of an unfinished page.
const ENDS: &[&str] = &[
    "",
    "",
    "<textarea>",
    "<script>",
    "<title>",
    "<html a='",
    "<head b",
    "<plaintext></head>",
    "</p",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn page_without_the_script_is_the_page(
        bom in any::<bool>(),
        before in proptest::collection::vec(proptest::sample::select(BEFORE), 0..6),
        content in proptest::collection::vec(proptest::sample::select(CONTENT), 0..6),
        end in proptest::sample::select(ENDS),
    ) {
        let bom = if bom { "\u{feff}" } else { "" };
        let page = [bom, &before.concat(), &content.concat(), end].concat();
        let served = Served { deploy: 7, is_missing: false, shown: None };
        let live = inject(&Bytes::from(page.clone()), served);
        let element = script(page.as_bytes(), served);
        let text = std::str::from_utf8(&live).unwrap();
        prop_assert_eq!(text.replacen(&element, "", 1), page.as_str());
        let ((expected, none), (found, one)) = (tree(page.as_bytes()), tree(&live));
        prop_assert_eq!(found, expected);
        prop_assert_eq!((none, one), (0, 1), "{}", text);
    }
}
