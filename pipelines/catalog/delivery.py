"""How does a cloud want its images delivered?"""
