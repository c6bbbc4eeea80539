//! What a model reads and writes: the tools `exec` and `wait`, the declarations of nested
//! tools, and what a cell's response looks like.
//!
//! Nothing here runs anything. A host makes a [`ToolCatalog`] of its tools, offers
//! [`ExecToolSpec`] and [`WaitToolSpec`] to its model, takes the model's input apart with
//! [`parse_exec_source`] or [`ExecArguments`] and [`WaitArguments`], and answers with what
//! [`show`] makes of a response.

mod activity;
#[cfg(feature = "argument-checks")]
mod arguments;
mod catalog;
mod declaration;
mod declaration_file;
mod description;
mod exec_arguments;
mod exec_spec;
mod mcp;
mod names;
mod observed;
mod output;
mod patient;
mod pragma;
mod scripts;
mod tokens;
mod typescript;
mod wait_policy;
mod wait_spec;

pub use activity::{ApprovalAsked, CellActivity};
#[cfg(feature = "argument-checks")]
pub use arguments::{ArgumentChecks, ToolArgumentsError};
pub use catalog::{CatalogTool, SkipReason, SkippedTool, ToolCatalog, ToolNamespaceDescription};
pub use declaration::{MCP_TYPES, declare, mcp_result_schema};
pub use declaration_file::declaration_file;
#[cfg(feature = "type-checks")]
pub(crate) use declaration_file::{ARGUMENTS_TYPE, compiler_declarations};
pub use description::InputForm;
pub use exec_arguments::{ExecArguments, ExecArgumentsError};
pub use exec_spec::{
    Declarations, Dialect, EXEC_GRAMMAR, EXEC_TOOL_NAME, ExecOptions, ExecToolSpec, ImageDetails,
    ProgramValues,
};
pub use mcp::{mcp_namespace, mcp_tool};
pub use names::code_mode_name;
pub use observed::ObservedResults;
pub use output::{
    DEFAULT_MAX_OUTPUT_TOKENS, Notes, OutputOptions, ToolOutput, show, truncate_items,
};
pub use patient::PatientBackend;
pub use pragma::{
    CODE_MODE_PRAGMA_PREFIX, ExecSourceError, MAX_SAFE_INTEGER, ParsedExecSource, parse_exec_source,
};
pub use scripts::{SavedScript, ScriptLibrary, call_script};
pub use tokens::{BYTES_PER_TOKEN, approximate_tokens, truncate_middle};
pub use typescript::{
    MAX_EXPANSIONS, MAX_EXPANSIONS_ON_PATH, MAX_RENDERED_BYTES, MAX_TYPE_BYTES, Reader,
    typescript_type,
};
pub use wait_policy::{CellWaiter, NewOutput, WaitPolicy, Waited};
pub use wait_spec::{ArgumentsError, WAIT_TOOL_NAME, WaitArguments, WaitToolSpec};
