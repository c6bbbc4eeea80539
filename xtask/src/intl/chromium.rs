//! What Chromium's build of ICU keeps of CLDR's names; it leaves the others out.

/// Currencies with symbols and names.
const CURRENCIES: &str = "\
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN \
    BWP BYN BZD CAD CDF CHF CLP CNY COP CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR \
    FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD \
    JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK \
    MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN \
    PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLL SOS SRD SSP STN SVC SYP SZL THB \
    TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XDR XOF XPF \
    XSU YER ZAR ZMW ZWL";

/// Languages and dialects with names.
const LANGUAGES: &str = "\
    af ak am an ar ar-001 as ast ay az az-Arab be bg bho bm bn br bs ca ceb chr ckb co cs cy \
    da de de-AT de-CH doi dv ee el en en-AU en-CA en-GB en-US eo es es-419 es-ES es-MX et eu \
    fa fa-AF fi fil fo fr fr-CA fr-CH fy ga gd gl gn gu ha haw he hi hmn hr ht hu hy ia id \
    ig ilo is it ja jv ka kk km kn ko kok kri ku ky la lb lg ln lo lt lus lv mai mg mi mk ml \
    mn mni mr ms mt my nb ne nl nl-BE nn no nso ny oc om or pa pl ps pt pt-BR pt-PT qu rm ro \
    ro-MD ru rw sa sd si sk sl sm sn so sq sr sr-ME st su sv sw sw-CD ta te tg th ti tk tn \
    to tr ts tt ug uk ur uz vi wa wo xh yi yo yue zh zh-Hans zh-Hant zu";

/// Whether a currency is kept.
pub fn has_currency(code: &str) -> bool {
    CURRENCIES.split(' ').any(|kept| kept == code)
}

/// Whether a name is kept, by the mark of its kind and its code, which `~` parts from the
/// form of the name.
pub fn has_name(mark: char, code: &str) -> bool {
    let (code, form) = code.split_once('~').unwrap_or((code, "short"));
    form == "short"
        && match mark {
            'l' => LANGUAGES.split(' ').any(|kept| kept == code),
            'r' => code == "419" || !code.starts_with(|first: char| first.is_ascii_digit()),
            _ => true,
        }
}
