//! Compiles the messages of Mesos' v1 API and our own bodies to Rust, and to tables of what they have,
//! by which JSON is read and written: see `src/http/transcode/shape.rs`.

use std::collections::BTreeMap;
use std::fmt::Write;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto};

/// Files with messages that cross HTTP.
const API: [&str; 5] = [
    "mesos/v1/mesos.proto",
    "mesos/v1/scheduler/scheduler.proto",
    "mesos/v1/executor/executor.proto",
    "mesos/v1/master/master.proto",
    "mesos/v1/agent/agent.proto",
];
/// Bodies of our own wire.
const BODIES: &str = "mesita/bodies.proto";

/// Answers whose lists Mesos writes by hand, and so even if they are empty. Mesos:
/// `master/readonly_handler.cpp`, `slave/http.cpp`, `jsonify…`.
const WHOLE: [&str; 4] = ["GetAgents", "GetExecutors", "GetFrameworks", "GetTasks"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let described = protox::compile(API, ["proto"])?;
    let mut shapes = Shapes::default();
    for file in described.file {
        let package = file.package().to_owned();
        file.message_type.iter().for_each(|of| shapes.message(&package, of));
        file.enum_type.iter().for_each(|of| shapes.choice(&package, of));
    }
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("shapes.rs"), shapes.written()?)?;
    let all = protox::compile(API.into_iter().chain([BODIES]), ["proto"])?;
    let mut config = prost_build::Config::new();
    // In order, so that the same message always has the same bytes.
    config.btree_map(["."]).enable_type_names().compile_fds(all)?;
    Ok(())
}

/// All messages and enums by their full names.
#[derive(Default)]
struct Shapes {
    messages: BTreeMap<String, DescriptorProto>,
    choices: BTreeMap<String, EnumDescriptorProto>,
}

impl Shapes {
    fn message(&mut self, around: &str, of: &DescriptorProto) {
        let name = format!("{around}.{}", of.name());
        of.nested_type.iter().for_each(|inner| self.message(&name, inner));
        of.enum_type.iter().for_each(|inner| self.choice(&name, inner));
        self.messages.insert(name, of.clone());
    }

    fn choice(&mut self, around: &str, of: &EnumDescriptorProto) {
        self.choices.insert(format!("{around}.{}", of.name()), of.clone());
    }

    /// The tables as Rust. Messages are in the order of their names, so that one is found fast.
    fn written(&self) -> Result<String, std::fmt::Error> {
        let mut text = format!("static MESSAGES: [Message; {}] = [\n", self.messages.len());
        for (name, of) in &self.messages {
            writeln!(text, "Message {{ name: {name:?}, fields: &[")?;
            let mut fields: Vec<&FieldDescriptorProto> = of.field.iter().collect();
            fields.sort_by_key(|field| field.number());
            for field in fields {
                writeln!(text, "{},", self.field(of, field))?;
            }
            text.push_str("] },\n");
        }
        writeln!(text, "];\nstatic CHOICES: [Choice; {}] = [", self.choices.len())?;
        for of in self.choices.values() {
            let values = of.value.iter().map(|one| format!("({:?}, {})", one.name(), one.number()));
            writeln!(text, "Choice {{ values: &[{}] }},", values.collect::<Vec<_>>().join(", "))?;
        }
        text.push_str("];\n");
        Ok(text)
    }

    fn field(&self, of: &DescriptorProto, field: &FieldDescriptorProto) -> String {
        let entry = self.messages.get(field.type_name().trim_start_matches('.'));
        let entry = entry.filter(|of| of.options.as_ref().is_some_and(|one| one.map_entry()));
        let label = match (entry, field.label()) {
            (Some(_), _) => "Map",
            (None, Label::Repeated) => "List",
            (None, Label::Required) => "Required",
            (None, Label::Optional) => "Optional",
        };
        // A map is told by what its values are; all maps of the API are by text.
        let valued = entry.and_then(|entry| entry.field.iter().find(|one| one.number() == 2));
        let kind = self.kind(valued.unwrap_or(field));
        let told = told(of, field);
        let (name, number) = (field.name(), field.number());
        format!(
            "Field {{ name: {name:?}, number: {number}, label: Label::{label}, kind: {kind}, told: {told:?} }}"
        )
    }

    fn kind(&self, field: &FieldDescriptorProto) -> String {
        let name = field.type_name().trim_start_matches('.');
        let place = |names: Vec<&String>| names.iter().position(|one| *one == name).unwrap_or(0);
        match field.r#type() {
            Type::Message | Type::Group => {
                format!("Kind::Message({})", place(self.messages.keys().collect()))
            }
            Type::Enum => format!("Kind::Choice({})", place(self.choices.keys().collect())),
            Type::Float
            | Type::Sint32
            | Type::Sint64
            | Type::Fixed32
            | Type::Fixed64
            | Type::Sfixed32
            | Type::Sfixed64 => panic!("{name}: no message of Mesos has such numbers"),
            Type::Double
            | Type::Int32
            | Type::Int64
            | Type::Uint32
            | Type::Uint64
            | Type::Bool
            | Type::String
            | Type::Bytes => format!("Kind::{:?}", field.r#type()),
        }
    }
}

/// What is told of a field that is not there, as JSON: its declared default, and lists of those
/// answers, unless it is deprecated. Empty: nothing.
fn told(of: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    if field.options.as_ref().is_some_and(|options| options.deprecated()) {
        return String::new();
    }
    let list = field.label() == Label::Repeated;
    if list && WHOLE.contains(&of.name()) {
        return "[]".to_owned();
    }
    let Some(value) = &field.default_value else { return String::new() };
    match field.r#type() {
        Type::Double => {
            value.parse::<f64>().map_or_else(|_| format!("{value:?}"), |value| format!("{value:?}"))
        }
        Type::String | Type::Bytes | Type::Enum => format!("{value:?}"),
        Type::Bool
        | Type::Int32
        | Type::Int64
        | Type::Uint32
        | Type::Uint64
        | Type::Float
        | Type::Sint32
        | Type::Sint64
        | Type::Fixed32
        | Type::Fixed64
        | Type::Sfixed32
        | Type::Sfixed64
        | Type::Message
        | Type::Group => value.clone(),
    }
}
