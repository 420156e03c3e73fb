"""The common base of everything a recipe sets: frozen, strict about names."""

import pydantic

from auxzoo.errors import UserError


class Settings(pydantic.BaseModel):
    """A frozen group of settings that refuses unknown names and says so as a `UserError`."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, value, source):
        """Returns the settings in `value`, plain types as read from YAML.

        Args:
            value: `dict`.
            source: `str`, where it came from, for the error message.

        Raises:
            UserError: naming every wrong setting, what is allowed and what came.
        """
        try:
            return cls.model_validate(value)
        except pydantic.ValidationError as error:
            raise UserError(f"{source} is not right:\n{explain(error)}") from None


def explain(error):
    """Returns one line for each wrong setting of a pydantic error."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "the whole"
        message = problem["msg"]
        if problem["type"] == "extra_forbidden":
            message = "no such setting"
        lines.append(f"  `{where}`: {message}. Received: {problem['input']!r}")
    return "\n".join(lines)
