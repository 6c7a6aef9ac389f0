from consul import aio as aio
from consul import base as base
