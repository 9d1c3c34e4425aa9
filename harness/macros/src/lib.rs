//! The attribute that makes a function a scenario.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Attribute, Expr, ExprLit, Ident, ItemFn, Lit, Meta, Token, parse_macro_input, punctuated::Punctuated};

/// Registers an `async fn(s: &mut Scenario) -> Result<()>` as a scenario under its own name, with its doc comment as
/// its explanation.
///
/// `#[scenario(initial_snapshot)]` captures the rows that exist before the capture begins too.
#[proc_macro_attribute]
pub fn scenario(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let parser = Punctuated::<Ident, Token![,]>::parse_terminated;
    let arguments = parse_macro_input!(arguments with parser);
    let function = parse_macro_input!(item as ItemFn);
    let mut snapshot = quote!(NoData);
    for argument in arguments {
        if argument != "initial_snapshot" {
            let message = "unknown option; there is `initial_snapshot`";
            return syn::Error::new(argument.span(), message).to_compile_error().into();
        }
        snapshot = quote!(Initial);
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
                run: |s| ::std::boxed::Box::pin(#ident(s)),
            }
        }
    }
    .into()
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
