"""The layout of --help: commands in sections, metavars instead of Python types, examples as they are typed."""

from inspect import cleandoc

from typer.core import TyperCommand, TyperGroup

STAGES, METHODS, LOOK = "Stages", "Methods and comparisons", "Look"
TASKS, PLAN, MEASURE, SHARE = "Tasks and data", "Plan and sweep", "Measure", "Share and keep"
SECTIONS = (STAGES, METHODS, LOOK, TASKS, PLAN, MEASURE, SHARE)  # of `swgctl --help`, in its order
COLUMN = 24  # characters of the longest option that its help stands beside, not below
OTHERS = "Commands"  # the heading of commands without a section: those of `swgctl plot`, `swgctl task` ...


class Command(TyperCommand):
    """A command whose --help is in plain text; its epilog is printed line by line, never rewrapped."""

    def collect_usage_pieces(self, ctx):
        return [self.options_metavar or "", *(_usage(argument) for argument in _arguments(self, ctx))]

    def format_options(self, ctx, formatter) -> None:
        _format_parameters(self, ctx, formatter)

    def format_epilog(self, ctx, formatter) -> None:
        _format_epilog(self, formatter)


class Group(TyperGroup):
    """A group of commands, listed by section (`rich_help_panel`, which each command and sub-group declares)."""

    def format_options(self, ctx, formatter) -> None:
        _format_parameters(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx, formatter) -> None:
        listed = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        commands = {name: command for name, command in listed.items() if command and not command.hidden}
        longest = max(map(len, commands), default=0)
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in commands.items():
            summary = command.get_short_help_str(formatter.width - longest - 6)
            section = getattr(command, "rich_help_panel", None) or OTHERS
            sections.setdefault(section, []).append((name.ljust(longest), summary))
        for section in sorted(sections, key=[*SECTIONS, *sections].index):
            with formatter.section(section):
                formatter.write_dl(sections[section])

    def format_epilog(self, ctx, formatter) -> None:
        _format_epilog(self, formatter)


def examples(lines: str) -> str | None:
    """The epilog "Examples:" of lines that can be pasted; None where there are none."""
    return "Examples:\n" + "\n".join(f"  {line}" for line in cleandoc(lines).splitlines()) if lines else None


def _arguments(command, ctx) -> list:
    return [parameter for parameter in command.get_params(ctx) if parameter.param_type_name == "argument"]


def _name(argument) -> str:
    """TASK, or TASK... of one that takes several."""
    return (argument.metavar or argument.name.upper()) + ("..." if argument.nargs != 1 else "")


def _usage(argument) -> str:
    return _name(argument) if argument.required else f"[{_name(argument)}]"


def _format_parameters(command, ctx, formatter) -> None:
    arguments = [(_name(argument), argument.get_help_record(ctx)[1]) for argument in _arguments(command, ctx)]
    options = [
        parameter.get_help_record(ctx)
        for parameter in command.get_params(ctx)
        if parameter.param_type_name == "option" and not parameter.hidden
    ]
    for title, rows in (("Arguments", arguments), ("Options", options)):
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows, col_max=COLUMN)


def _format_epilog(command, formatter) -> None:
    if command.epilog:
        formatter.write_paragraph()
        formatter.write(f"{command.epilog.strip()}\n")
