//! Files and functions that a person can hold in mind. Lines are those with code on them: no blank ones, comments or tests.

use std::collections::BTreeSet;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, ImplItemFn, ItemFn, Signature};

use crate::layering::{modules, parsed, root};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 60;
/// What the head of a file, or the comment over a function, says where there is a reason to be longer.
const REASON: &str = "Long because ";

fn lines(tokens: TokenStream) -> BTreeSet<usize> {
    let mut out = BTreeSet::new();
    let mut add = |span: proc_macro2::Span| {
        out.extend([span.start().line, span.end().line]);
    };
    let mut next = vec![tokens];
    while let Some(tokens) = next.pop() {
        for token in tokens {
            match token {
                TokenTree::Group(group) => {
                    add(group.span_open());
                    add(group.span_close());
                    next.push(group.stream());
                }
                other => add(other.span()),
            }
        }
    }
    out
}

/// Functions that are too long, and whether their comments say why.
#[derive(Default)]
struct Long {
    found: Vec<(String, usize, usize)>,
}

impl Long {
    fn look(&mut self, signature: &Signature, block: &Block) {
        let mut tokens = signature.to_token_stream();
        tokens.extend(block.to_token_stream());
        let lines = lines(tokens);
        if lines.len() > FUNCTION_LINES {
            let first = lines.first().copied().unwrap_or_default();
            self.found.push((signature.ident.to_string(), first, lines.len()));
        }
    }
}

impl<'ast> Visit<'ast> for Long {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.look(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.look(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// The comments right above a line (counted from 1).
fn comment_above(text: &str, line: usize) -> String {
    let before: Vec<&str> = text.lines().take(line - 1).collect();
    let above = before.iter().rev().take_while(|line| {
        let line = line.trim_start();
        line.starts_with("//") || line.starts_with("#[")
    });
    above.copied().collect()
}

fn text_of(file: &Path) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

#[test]
fn files_answer_one_question_and_functions_fit_a_screen() {
    let mut wrong = Vec::new();
    let mut all = 0;
    for module in modules() {
        let text = text_of(&module.file);
        let count = lines(module.tokens).len();
        all += count;
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        if count > FILE_LINES && !head.contains(REASON) {
            wrong.push(format!("{}: {count} lines", module.file.display()));
        }
        let mut long = Long::default();
        long.visit_file(&parsed(&module.file));
        for (name, line, count) in long.found {
            if !comment_above(&text, line).contains(REASON) {
                wrong.push(format!("{}:{line} {name}: {count} lines", module.file.display()));
            }
        }
    }
    println!("{all} lines of code outside tests");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn lines_are_those_with_code() {
    let text = "// one\nfn f() {\n\n    // two\n    let x = (\n        1,\n    );\n}\n";
    let file = syn::parse_file(text).unwrap();
    assert_eq!(Vec::from_iter(lines(file.into_token_stream())), [2, 5, 6, 7, 8]);
    assert_eq!(comment_above("a\n/// Long\n#[x]\nfn f", 4), "#[x]/// Long");
}
