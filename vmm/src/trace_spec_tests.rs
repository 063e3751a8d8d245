use super::*;

fn parse(text: &str) -> Result<TraceSpec, String> {
    text.parse::<TraceOption>().map(|option| option.0).map_err(|error| error.to_string())
}

#[test]
fn a_file_alone_is_text() {
    assert_eq!(parse("out.txt"), Ok(TraceSpec::text("out.txt")));
    assert_eq!(parse("a,,b"), Ok(TraceSpec::text("a,b")));
}

#[test]
fn options_and_a_filter_with_commas() {
    let spec = parse("t,format=bin,off,filter=process=\"a,b\" or dma").unwrap();
    assert_eq!((spec.format, spec.on), (TraceFormat::Binary, false));
    assert_eq!(spec.filter.as_deref(), Some("process=\"a,b\" or dma"));
}

#[test]
fn mistakes_are_sentences() {
    for (text, part) in [
        ("", "names no file"),
        ("t,format=xml", "unknown format `xml`"),
        ("t,on", "unknown option `on`"),
        ("t,filter=", "there is no expression"),
        ("t,filter=devise=x", "character 1: there is no field `devise`"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn an_outputs_format_is_said_or_seen() {
    assert_eq!(output("a.perfetto-trace").unwrap().format, TraceFormat::Perfetto);
    assert_eq!(output("a.txt,format=bin").unwrap().format, TraceFormat::Binary);
    assert!(output("a").unwrap_err().to_string().contains("does not say a format"));
    assert!(output("a,off").is_err() && output("a.txt,filter=dma").is_err());
}
