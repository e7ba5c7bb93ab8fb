"""`python -m orchestrator`: the command line as a Ray job runs it, on a node that may lack the packages."""

import sys

try:
    from orchestrator.cli.main import main

    main()
except ModuleNotFoundError as error:
    missing = str(error.name)
    if missing.split(".")[0] in ("features", "models", "orchestrator"):
        raise
    print(
        f"stillhouse: {sys.executable} has no package '{missing}'; install Stillhouse on every node of the cluster "
        f"(make install, Dockerfile, cluster.yaml) and start Ray there with that environment's bin first on the PATH",
        file=sys.stderr,
    )
    sys.exit(2)
