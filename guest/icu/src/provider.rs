//! The data that ICU4X's crates carry, as the bytes of pieces.

/// The data of the pinned crates.
pub(crate) struct Baked;

const _: () = {
    use icu_casemap_data::*;
    use icu_collator_data::*;
    use icu_normalizer_data::*;
    use icu_segmenter_data::*;
    /// The names that the macros look for.
    mod icu {
        pub use icu_casemap as casemap;
        pub use icu_collator as collator;
        pub use icu_collections as collections;
        pub use icu_locale as locale;
        pub use icu_normalizer as normalizer;
        pub use icu_segmenter as segmenter;
    }
    icu_collator_data::make_provider!(Baked);
    impl_collation_root_v1!(Baked);
    impl_collation_tailoring_v1!(Baked, ITER);
    impl_collation_diacritics_v1!(Baked, ITER);
    impl_collation_jamo_v1!(Baked);
    impl_collation_metadata_v1!(Baked, ITER);
    impl_collation_special_primaries_v1!(Baked);
    impl_collation_reordering_v1!(Baked, ITER);
    impl_normalizer_nfd_data_v1!(Baked);
    impl_normalizer_nfd_tables_v1!(Baked);
    impl_segmenter_break_sentence_v1!(Baked);
    impl_segmenter_break_grapheme_cluster_v1!(Baked);
    impl_segmenter_break_sentence_override_v1!(Baked, ITER);
    impl_case_map_v1!(Baked);
};

/// The one piece of a structure that no locale changes.
macro_rules! singleton {
    ($marker:ty) => {{
        let response: icu_provider::DataResponse<$marker> =
            icu_provider::DataProvider::load(&crate::provider::Baked, Default::default())?;
        postcard::to_allocvec(response.payload.get())?
    }};
}

/// The pieces of a structure, by `LOCALE/TYPE`.
macro_rules! variants {
    ($marker:ty) => {{
        use icu_provider::{DataProvider, DataRequest, DataResponse, IterableDataProvider};
        let mut pieces = std::collections::BTreeMap::new();
        let provider = &crate::provider::Baked;
        for id in IterableDataProvider::<$marker>::iter_ids(provider)? {
            let request = DataRequest { id: id.as_borrowed(), ..Default::default() };
            let response: DataResponse<$marker> = provider.load(request)?;
            let name = format!("{}/{}", id.locale, id.marker_attributes.as_str());
            pieces.insert(name, postcard::to_allocvec(response.payload.get())?);
        }
        pieces
    }};
}

pub(crate) use {singleton, variants};
