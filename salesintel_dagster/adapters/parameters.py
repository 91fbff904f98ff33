"""The sales source's configuration, from one SSM SecureString. What its text means is `source_config`'s to say.

A message names the parameter and the rule, and repeats no value: the whole text is a secret. Its password or token is
learnt by every redaction of the process.
"""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as AwsConnectionError

from salesintel_dagster.adapters.aws import AwsClient, code_of, told
from salesintel_dagster.adapters.source_config import SourceConfig, parse_source_config, secret_of, wrong
from salesintel_dagster.domain.errors import SettingInvalid, SourceUnavailable
from salesintel_dagster.domain.redaction import learn

_SERVER_ERROR = 500
_TRANSIENT = frozenset({"ThrottlingException", "TooManyUpdates", "RequestLimitExceeded", "InternalServerError"})


def read_source_config(ssm: AwsClient, name: str) -> SourceConfig:
    """Read and check the parameter `name`.

    Raises SettingInvalid where the parameter is missing, unreadable or wrong, SourceUnavailable where SSM did not
    answer within its retries.
    """
    try:
        parameter = ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]
    except ClientError as error:
        raise _refused(name, error) from None
    except (AwsConnectionError, HTTPClientError) as error:
        raise SourceUnavailable(f"SSM parameter {name}: {told(error)}") from None
    except BotoCoreError as error:
        raise wrong(name, told(error)) from None
    if parameter["Type"] != "SecureString":
        raise wrong(name, f"is a {parameter['Type']}; store it again as a SecureString, it holds a password")
    config = parse_source_config(name, parameter["Value"])
    learn(secret_of(config))
    return config


def _refused(name: str, error: ClientError) -> SettingInvalid | SourceUnavailable:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= _SERVER_ERROR or code_of(error) in _TRANSIENT:
        return SourceUnavailable(f"SSM parameter {name}: {told(error)}")
    if code_of(error) == "ParameterNotFound":
        return wrong(
            name,
            "not there; store host, port, database, username, password in it (or another kind of source, see"
            " docs/settings.md), as a JSON object in a SecureString",
        )
    return wrong(name, told(error))
