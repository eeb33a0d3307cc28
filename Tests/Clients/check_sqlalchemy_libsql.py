"""SQLAlchemy with the dialect `sqlalchemy-libsql`."""

from sqlalchemy import Column, Integer, String, create_engine, func, select
from sqlalchemy.orm import Session, declarative_base

from checks import URL, done, same

Base = declarative_base()


class Person(Base):
    __tablename__ = "alchemy_people"
    id = Column(Integer, primary_key=True)
    name = Column(String)


engine = create_engine("sqlite+libsql://" + URL.split("://", 1)[1])
Base.metadata.drop_all(engine)
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all([Person(name="Ada"), Person(name="Grace")])
    session.commit()
    ada = session.scalars(select(Person).where(Person.name == "Ada")).one()
    ada.name = "Ada Lovelace"
    session.commit()
    session.add(Person(name="gone"))
    session.flush()
    session.rollback()
    same(session.scalar(select(func.count()).select_from(Person)), 2, "rollback")
    names = session.scalars(select(Person.name).order_by(Person.id)).all()
    same(list(names), ["Ada Lovelace", "Grace"], "names")
done()
