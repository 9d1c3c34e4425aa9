//! The attribute that makes a function a scenario.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Attribute, Expr, ExprLit, ItemFn, Lit, LitStr, Meta, Token, parse_macro_input, punctuated::Punctuated};

/// Registers an `async fn(s: &mut Scenario) -> Result<()>` as a scenario under its own name, with its doc comment as
/// its explanation.
///
/// - `#[scenario(initial_snapshot)]` captures the rows that exist before the capture begins too; `initial_snapshot = "!maxwell"` by all methods
///   but that one, with a list as for `only`.
/// - `#[scenario(own_server)]` gives it a server of its own, for what would do harm to others on the same.
/// - `#[scenario(only = "debezium, logical", why = "…")]` says that it has a meaning for these methods only, and why; with `!`
///   before a name, for all but that one.
/// - `#[scenario(on = "MySQL, MariaDB")]` says that only these storages can play it.
#[proc_macro_attribute]
pub fn scenario(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let parser = Punctuated::<Meta, Token![,]>::parse_terminated;
    let arguments = parse_macro_input!(arguments with parser);
    let function = parse_macro_input!(item as ItemFn);
    let mut snapshot = quote!(NoData);
    let mut own_server = false;
    let (mut only, mut on, mut reading, mut why) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    for argument in &arguments {
        match option(argument) {
            Some((name, None)) if name == "initial_snapshot" => snapshot = quote!(Initial),
            Some((name, Some(text))) if name == "initial_snapshot" => {
                (snapshot, reading) = (quote!(Initial), listed(&text));
            }
            Some((name, None)) if name == "own_server" => own_server = true,
            Some((name, Some(text))) if name == "only" => only = listed(&text),
            Some((name, Some(text))) if name == "on" => on = listed(&text),
            Some((name, Some(text))) if name == "why" => why = text,
            _ => {
                let message = "unknown option; there are `initial_snapshot`, `own_server`, `only = \"METHOD, …\"`, `why = \"…\"` and \
                               `on = \"STORAGE, …\"`";
                return syn::Error::new_spanned(argument, message).to_compile_error().into();
            }
        }
    }
    if only.is_empty() != why.is_empty() {
        let message = "a scenario that is for some methods only says why: `only` and `why` belong together";
        return syn::Error::new(function.sig.ident.span(), message).to_compile_error().into();
    }
    let doc = doc(&function.attrs);
    if doc.is_empty() {
        let message = "a scenario is a page of the book: say in its doc comment what it shows";
        return syn::Error::new(function.sig.ident.span(), message).to_compile_error().into();
    }
    let ident = &function.sig.ident;
    let name = ident.to_string();
    quote! {
        #function

        ::changeproof::inventory::submit! {
            ::changeproof::scenario::Definition {
                name: #name,
                doc: #doc,
                file: ::core::file!(),
                package: ::core::env!("CARGO_PKG_NAME"),
                snapshot: ::changeproof::capture::SnapshotMode::#snapshot,
                reading: &[#(#reading),*],
                own_server: #own_server,
                only: &[#(#only),*],
                on: &[#(#on),*],
                why: #why,
                run: |s| ::std::boxed::Box::pin(#ident(s)),
            }
        }
    }
    .into()
}

/// The names of a list.
fn listed(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).collect()
}

/// An option's name and text.
fn option(argument: &Meta) -> Option<(String, Option<String>)> {
    let name = argument.path().get_ident()?.to_string();
    let text = match argument {
        Meta::Path(_) => None,
        Meta::NameValue(meta) => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(LitStr::value(text)),
            _ => return None,
        },
        Meta::List(_) => return None,
    };
    Some((name, text))
}

fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) => Some(line.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}
