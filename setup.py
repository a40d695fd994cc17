"""Installs natjax; tool settings stand in pyproject.toml."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent
# By which prepared sets, and images that stay on disk, are read.
READING = ["array_record>=0.5", "grain>=0.2.12"]
# By which sets are prepared, without TensorFlow.
DATA = ["tensorflow-datasets>=4.9.9", "importlib_resources", *READING]
PLOTS = ["matplotlib>=3.8"]
TENSORBOARD = ["tensorboardX>=2.6"]
# By which the parts of an experiment run as jobs.
SWEEPS = ["submitit>=1.5.4"]
# By which jax.export writes what it exported.
EXPORT = ["flatbuffers>=24.3"]
# Which writes ONNX, and what that is read back by.
ONNX = ["jax2onnx>=0.17", "onnxruntime>=1.22"]
# The site, and what runs the notebooks.
DOCS = ["sphinx>=8.1", "myst-parser>=4", "furo>=2024.8", "nbclient>=0.10",
        "nbformat>=5.10", "ipykernel>=6.29"]

setuptools.setup(
    name="natjax",
    version="0.2.0",
    description="Takes a network's architecture and returns a better or"
    " cheaper one, in JAX.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=setuptools.find_packages(include=["natjax", "natjax.*"]),
    package_data={"natjax": ["py.typed"], "natjax.zoo": ["genotypes.json"]},
    python_requires=">=3.11",
    install_requires=[
        "jax>=0.10",
        "flax>=0.12",
        "optax>=0.2.5",
        "jraph>=0.0.6.dev0",
        "chex>=0.1.90",
        "orbax-checkpoint>=0.11",
        "ml_dtypes>=0.5",  # The numbers of bfloat16 in people's weights.
        "numpy>=2.0",
        "pillow>=10",
        "rich>=13",
        "safetensors>=0.4",
        "scikit-learn>=1.5",  # The embedded digits.
        "scipy>=1.13",
    ],
    extras_require={
        "cuda": ["jax[cuda]>=0.10"],
        "cuda13": ["jax[cuda13]>=0.10"],
        "tpu": ["jax[tpu]>=0.10"],
        "data": DATA,
        "plots": PLOTS,
        "tensorboard": TENSORBOARD,
        "export": EXPORT,
        "onnx": ONNX,
        "sweeps": SWEEPS,
        "docs": DOCS,
        "benchmark": ["torch>=2.6"],
        # Beside whose networks those of the slow tests are run.
        "interchange": ["torch>=2.6", "torchvision>=0.21", "timm>=1.0"],
        "dev": ["pytest>=8", "pytest-xdist>=3.8", "hypothesis>=6.100",
                "ruff>=0.6", "autopep8>=2.3", "import-linter>=2.0",
                "mypy>=1.13", *READING, *PLOTS, *TENSORBOARD, *EXPORT,
                *SWEEPS],
    },
    entry_points={"console_scripts": ["natjax = natjax.cli:main"]},
)
